"""Files that are no safetensors are called by their name and never opened."""

from __future__ import annotations

import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from sfumato.errors import ModelFileError
from sfumato.models.safetensors_file import read_header

PROOF = "sfumato-test-proof-that-code-ran"


def _zip(names: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return stream.getvalue()


PICKLE = b"cos\nsystem\n(S'touch " + PROOF.encode() + b"'\ntR."
"""What runs a command in whoever unpickles it."""

OTHERS = {
    "model.ckpt": (_zip({"archive/data.pkl": PICKLE, "archive/data/0": bytes(64)}), "pickled PyTorch"),
    "renamed.safetensors": (_zip({"archive/data.pkl": PICKLE}), "pickled PyTorch"),
    "legacy.pt": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + PICKLE, "pickled"),
    "protocol4.safetensors": (b"\x80\x04\x95" + PICKLE, "pickled"),
    "protocol0.pth": (PICKLE, "pickled"),
    "old.bin": (_tar(), "tar archive"),
    "pack.safetensors": (_zip({"readme.txt": b"hello"}), "zip archive"),
    "null.bin": (b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(99), "7z archive"),
    "a.gguf": (b"GGUF\x03\0\0\0" + bytes(99), "GGUF"),
    "b.safetensors": (b"GGUF\x03\0\0\0" + bytes(99), "GGUF"),
    "net.onnx": (b"\x08\x07\x12\x07pytorch\x1a\x052.1.0", "ONNX"),
    "login.safetensors": (b"\n<!DOCTYPE html><html><body>Please log in</body></html>", "web page"),
    "denied.safetensors": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "web page"),
    "error.safetensors": (b'{"error": "Unauthorized"}', "JSON"),
    "lfs.safetensors": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4265146304\n", "Git LFS pointer"),
    "empty.safetensors": (b"", "empty"),
    "zeros.safetensors": (bytes(5000), "zeros"),
    "keras.h5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
    "picture.safetensors": (b"\x89PNG\r\n\x1a\n" + bytes(99), "PNG"),
    "noise.safetensors": (bytes(range(7, 200)), "no safetensors file"),
    "noise.ckpt": (bytes(range(7, 200)), "pickled"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_kind_of_file_is_named_and_has_a_remedy(tmp_path: Path, name: str) -> None:
    content, words = OTHERS[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=words) as caught:
        read_header(path)
    assert caught.value.remedy and caught.value.exit_code == 3


def test_nothing_that_is_refused_is_opened_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    events: list[str] = []
    watching = [True]

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in ("pickle.find_class", "os.system", "subprocess.Popen", "exec", "import", "socket.connect"):
            events.append(event)

    for name, (content, _) in OTHERS.items():
        (tmp_path / name).write_bytes(content)
    sys.addaudithook(watch)
    try:
        for name in OTHERS:
            with pytest.raises(ModelFileError):
                read_header(tmp_path / name)
    finally:
        watching.clear()
    assert events == [] and PROOF not in os.listdir(tmp_path)  # noqa: PTH208
