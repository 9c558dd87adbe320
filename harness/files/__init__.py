"""Files that may be damaged, and files and folders that appear whole or not at all."""

from harness.files.atomic_files import (
    FREE_SPACE,
    OpenedFile,
    atomic_file,
    atomic_folder,
    clear_leftovers,
    new_folder,
    refuse_unwritable,
    remove,
    write_text,
)
from harness.files.gguf_walk import check_gguf
from harness.files.text_files import (
    half_character,
    json_mistake,
    parse_json,
    read_json,
    read_json_object,
    read_text,
)

__all__ = [
    "FREE_SPACE",
    "OpenedFile",
    "atomic_file",
    "atomic_folder",
    "check_gguf",
    "clear_leftovers",
    "half_character",
    "json_mistake",
    "new_folder",
    "parse_json",
    "read_json",
    "read_json_object",
    "read_text",
    "refuse_unwritable",
    "remove",
    "write_text",
]
