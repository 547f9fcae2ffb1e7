// Tables and blocks of code that scroll can be reached by the keyboard.
"use strict";

function reach() {
  for (const part of document.querySelectorAll(".table-wrapper, .highlight pre, pre.literal-block")) {
    if (part.scrollWidth > part.clientWidth) {
      part.tabIndex = 0;
    } else {
      part.removeAttribute("tabindex");
    }
  }
}

reach();
window.addEventListener("resize", reach);
