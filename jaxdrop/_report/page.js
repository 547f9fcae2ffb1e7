// Shows the values of a plot at the pointer, at the finger and by the arrow keys, and unfolds all for the printer.
(() => {
  const REACH = 24; // pixels from the pointer to a point
  const SMALL = 20; // pixels that a point has at most; bars have more
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  document.body.append(tip);

  const hide = () => {
    tip.hidden = true;
    for (const point of document.querySelectorAll(".points .on")) point.classList.remove("on");
  };

  const show = (point) => {
    hide();
    point.classList.add("on");
    tip.textContent = point.dataset.values;
    tip.hidden = false;
    const box = point.getBoundingClientRect();
    const width = document.documentElement.clientWidth;
    const left = Math.min(Math.max(box.x + box.width / 2 - tip.offsetWidth / 2, 4), width - tip.offsetWidth - 4);
    const above = box.y - tip.offsetHeight - 6;
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${(above < 0 ? box.bottom + 6 : above) + scrollY}px`;
  };

  const nearest = (points, x, y) => {
    let best = null;
    let least = REACH;
    for (const point of points) {
      const box = point.getBoundingClientRect();
      const far = Math.hypot(
        Math.max(box.left - x, 0, x - box.right),
        Math.max(box.top - y, 0, y - box.bottom),
      );
      // A point in front of a bar wins when the pointer is near it.
      const score = far + (Math.max(box.width, box.height) > SMALL ? REACH / 2 : 0);
      if (score < least) [best, least] = [point, score];
    }
    return best;
  };

  for (const plot of document.querySelectorAll(".plot")) {
    const points = [...plot.querySelectorAll(".points rect")];
    for (const point of points) {
      const title = point.querySelector("title");
      point.dataset.values = title.textContent;
      title.remove(); // else the browser shows it too
    }
    let current = -1;
    const move = (event) => {
      const point = nearest(points, event.clientX, event.clientY);
      current = points.indexOf(point);
      point ? show(point) : hide();
    };
    plot.addEventListener("pointermove", move);
    plot.addEventListener("pointerdown", move);
    plot.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
    plot.addEventListener("scroll", hide);
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return hide();
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step || !points.length) return undefined;
      event.preventDefault();
      current = (current + step + points.length) % points.length;
      return show(points[current]);
    });
  }

  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  addEventListener("beforeprint", () => {
    hide();
    for (const fold of document.querySelectorAll("details:not([open])")) {
      fold.open = true;
      fold.dataset.folded = "";
    }
  });
  addEventListener("afterprint", () => {
    for (const fold of document.querySelectorAll("details[data-folded]")) {
      fold.open = false;
      delete fold.dataset.folded;
    }
  });
})();
