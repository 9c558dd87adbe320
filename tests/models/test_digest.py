"""A model's digest depends on its files, not on their folder."""

import json
import shutil

from harness.models import locate


def test_the_digest_follows_weights_and_tokenizer_not_the_path(tiny_model, tmp_path):
    first = locate(str(tiny_model)).digest
    folder = shutil.copytree(tiny_model, tmp_path / "copy")
    assert locate(str(folder)).digest == first
    facts = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**facts, "extra": 1}))
    assert locate(str(folder)).digest != first
