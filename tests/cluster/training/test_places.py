"""A run at a URL: what one machine keeps there is what another one fetches, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.training.places import RunPlace, at_hand, node_folder, pack
from forecaster.hub import TRAINING_RECORD
from market.storage import Folder

pytestmark = pytest.mark.filterwarnings("ignore")  # s3fs's own event loop and deprecations


def checkpoint(place: RunPlace, step: int, content: str) -> None:
    folder = place.local / f"checkpoints/step-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "about.json").write_text(content)
    (folder / "state.pt").write_bytes(bytes(1000))


def shown(place: RunPlace) -> dict[str, bytes]:
    found = (path for path in place.local.rglob("*") if path.is_file())
    return {path.relative_to(place.local).as_posix(): path.read_bytes() for path in found}


@pytest.fixture(autouse=True)
def own_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_another_machine_goes_on_from_what_was_kept(bucket: str) -> None:
    one, other = (RunPlace.of(f"{bucket}/run", name) for name in ("one", "other"))
    one.require_writable()
    one.fetch()
    checkpoint(one, 10, "ten")
    (one.local / "metrics.jsonl").write_text("1\n")
    one.keep()
    checkpoint(one, 20, "twenty")
    (one.local / "metrics.jsonl").write_text("1\n2\n")
    other.fetch()
    assert set(shown(other)) == {
        "checkpoints/step-00000010/about.json", "checkpoints/step-00000010/state.pt",
        "metrics.jsonl",
    }  # fmt: skip
    one.keep()
    checkpoint(other, 15, "of an attempt that nobody kept")
    other.fetch()
    assert shown(other) == shown(one)

    for path in (one.local / "checkpoints/step-00000010").iterdir():
        path.unlink()
    (one.local / "checkpoints/step-00000010").rmdir()
    (one.local / TRAINING_RECORD).write_text("{}")
    one.keep()
    other.fetch()
    assert shown(other) == shown(one)
    assert "checkpoints/step-00000010/about.json" not in shown(other)
    other.close()
    assert not other.local.exists()
    assert Folder(f"{bucket}/run").exists(TRAINING_RECORD)


def test_a_packed_folder_is_at_hand_on_every_node(bucket: str, tmp_path: Path) -> None:
    home = Folder(f"{bucket}/packed")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer/config.json").write_text("{}")
    pack(tmp_path / "tokenizer", home, "inputs/abc.tar", called="abc")
    folder = at_hand(home, "inputs/abc")
    assert folder == node_folder(home) / "inputs/abc"
    assert (folder / "config.json").read_text() == "{}"
    (folder / "config.json").write_text("[]")
    assert (at_hand(home, "inputs/abc") / "config.json").read_text() == "[]", "unpacked once"
    with pytest.raises(FileNotFoundError):
        at_hand(home, "inputs/missing")


def test_a_local_run_is_left_where_it_is(tmp_path: Path) -> None:
    place = RunPlace.of(tmp_path / "run")
    place.require_writable()
    assert place.local == tmp_path / "run"
    checkpoint(place, 10, "ten")
    before = shown(place)
    place.fetch()
    place.keep()
    place.close()
    assert shown(place) == before
