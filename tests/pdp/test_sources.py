"""A policy as its files: what is read, what is served, what names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.pdp.sources import MODULE_BYTES, read_folder, source_of
from gateway.pdp.syntax import PolicyRefused

RULE = "package tollgate\n\ndecision := true\n"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(PolicyRefused) as raised:
        read_folder(folder)
    return str(raised.value)


def test_tests_are_read_apart_and_never_served(tmp_path: Path) -> None:
    write(tmp_path, a_DOT_rego=RULE, a_test_DOT_rego="package a_test\n", README_DOT_md="# words")
    source = read_folder(tmp_path)
    assert [module.path for module in source.modules] == ["a.rego"]
    assert [module.path for module in source.tests] == ["a_test.rego"]


def test_data_is_rooted_at_its_folder(tmp_path: Path) -> None:
    write(
        tmp_path,
        a_DOT_rego=RULE,
        data_DOT_yaml="x: 1\n",
        teams__data_DOT_json='{"y": [2]}',
        teams__deep__data_DOT_yaml="z: 3\n",
    )
    assert read_folder(tmp_path).data == {"x": 1, "teams": {"y": [2], "deep": {"z": 3}}}


def test_only_files_called_data_are_data(tmp_path: Path) -> None:
    write(tmp_path, a_DOT_rego=RULE, other_DOT_json="{}", grants_DOT_yaml="a: b\n")
    assert read_folder(tmp_path).data == {}


def test_two_files_that_define_one_place_are_refused(tmp_path: Path) -> None:
    write(tmp_path, a_DOT_rego=RULE, data_DOT_yaml="teams: {b: 1}\n", teams__data_DOT_json='{"b": 2}')
    assert refusal(tmp_path) == "teams/data.json: b is already defined by another data file"


def test_a_folder_below_a_value_is_refused(tmp_path: Path) -> None:
    write(tmp_path, a_DOT_rego=RULE, data_DOT_yaml="teams: 1\n", teams__data_DOT_json='{"y": 2}')
    assert "teams" in refusal(tmp_path)


def test_data_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path, a_DOT_rego=RULE, data_DOT_json='{"a": 1, "\\u0061": 2}')
    assert refusal(tmp_path).startswith("data.json: a member name occurs twice")
    (tmp_path / "data.json").unlink()
    write(tmp_path, data_DOT_yaml="a: 1\na: 2\n")
    assert refusal(tmp_path) == "data.yaml: line 2: 'a' occurs twice"


def test_data_that_is_no_object_is_refused(tmp_path: Path) -> None:
    write(tmp_path, a_DOT_rego=RULE, data_DOT_json="[1]")
    assert refusal(tmp_path) == "data.json: an object is expected"


def test_an_empty_data_file_is_no_data(tmp_path: Path) -> None:
    assert read_folder(write(tmp_path, a_DOT_rego=RULE, data_DOT_yaml="# nothing yet\n")).data == {}


def test_a_folder_of_several_engines_has_ours_in_rego(tmp_path: Path) -> None:
    write(tmp_path, rego__a_DOT_rego=RULE, rego__data_DOT_yaml="x: 1\n", cerbos__data_DOT_yaml="b: 2\n")
    source = read_folder(tmp_path)
    assert (source.data, [module.path for module in source.modules]) == ({"x": 1}, ["a.rego"])
    assert source.revision == read_folder(tmp_path / "rego").revision


def test_hidden_files_and_folders_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path, a_DOT_rego=RULE)
    write(tmp_path / ".git", b_DOT_rego="not rego at all")
    (tmp_path / ".c.rego").write_text("nor this")
    assert len(read_folder(tmp_path).modules) == 1


def test_no_folder_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    assert "is not a folder" in refusal(tmp_path / "nowhere")
    assert "holds no .rego file" in refusal(tmp_path)
    write(tmp_path, a_test_DOT_rego="package a_test\n")
    assert "holds no .rego file" in refusal(tmp_path)


def test_a_module_that_is_no_text_or_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.rego").write_bytes(b"package tollgate\n# \xff\n")
    assert refusal(tmp_path) == "a.rego: not UTF-8 at byte 19"
    (tmp_path / "a.rego").write_bytes(b"#" * (MODULE_BYTES + 1))
    assert "larger than" in refusal(tmp_path)


def test_brackets_that_would_cost_the_parser_its_time_or_its_stack_are_refused() -> None:
    deep = "package tollgate\n\nx := " + "[" * 13 + "]" * 13
    with pytest.raises(PolicyRefused, match=r"^a\.rego:3: brackets nest deeper than 12 levels$"):
        source_of({"a.rego": deep})
    with pytest.raises(PolicyRefused, match="nest deeper"):
        source_of({"a_test.rego": "package t\nx := " + "[\n" * 5000 + "]\n" * 5000})


def test_brackets_in_texts_and_comments_do_not_count() -> None:
    marks = "[" * 50
    source_of({"a.rego": f'package tollgate\n# {marks}\nx := "{marks}"\ny := `{marks}`\nz := "\\"{marks}"\n'})


def test_the_revision_names_what_decides_and_nothing_else() -> None:
    one = source_of({"a.rego": RULE}, {"x": 1})
    assert one.revision.startswith("sha256:")
    assert source_of({"a.rego": RULE, "a_test.rego": "package t"}, {"x": 1}).revision == one.revision
    others = [
        source_of({"a.rego": RULE + "\n"}, {"x": 1}),
        source_of({"b.rego": RULE}, {"x": 1}),
        source_of({"a.rego": RULE}, {"x": 1.5}),
        source_of({"a.rego": RULE}, {"x": "1"}),
        source_of({"a.rego": RULE}, {"x": True}),
        source_of({"a.rego": RULE}, {}),
        source_of({"a.rego": RULE, "b.rego": RULE}, {"x": 1}),
    ]
    assert len({one.revision, *(other.revision for other in others)}) == len(others) + 1
