"""Checkpoints that are copied to a bucket and back."""

import pytest

from experiments import buckets, cli


def test_a_local_folder_is_used_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with buckets.local(cli.folder("new")) as folder:
        assert folder == cli.folder(tmp_path / "new")


def test_a_folder_is_copied_to_a_bucket_and_back(tmp_path, bucket):
    here, there = cli.folder(tmp_path), bucket / "run"
    for name in ("4/digests", "4/a/b", "4/c", "8/digests"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(name)
    buckets.upload(here, there, "digests")
    assert [str(file) for file in buckets.files(there)] == [
        f"s3://bucket/run/{name}" for name in ("4/a/b", "4/c", "4/digests", "8/digests")
    ]
    with buckets.local(there) as folder:
        assert (folder / "4" / "a" / "b").read_text() == "4/a/b"
        (folder / "4").rmtree()
        (folder / "8" / "digests").write_text("changed")
        buckets.upload(folder, there, "digests")
    # What is there whole is not copied again.
    assert {file.name: file.read_text() for file in buckets.files(there)} == {"digests": "8/digests"}
    assert not folder.exists()


def test_several_hosts_are_refused(bucket, monkeypatch):
    monkeypatch.setattr(buckets.jax, "process_count", lambda: 2)
    with (
        pytest.raises(
            cli.BadInputError, match="`out` must be on a disk that all hosts share, got s3://bucket"
        ),
        buckets.local(bucket),
    ):
        pass
