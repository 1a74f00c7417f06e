"""Tables and lists of text: every row as it is, or a refusal that names its line."""

import csv
import io
import json
import unicodedata
from pathlib import Path

import pytest

from promptopt.base.errors import PromptoptError
from promptopt.base.reading import difference, json_lines, near_name, one_line, read_table, read_text

HEAD = "file_name,text\n"


def write(folder: Path, content: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def texts(path: Path) -> list[str]:
    return [row.cells["text"] for row in read_table(path, ("file_name", "text")).rows]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_the_csv_module_writes_is_read_back(tmp_path: Path, end: str, mark: str, delimiter: str) -> None:
    wanted = [
        ["a.png", 'a polyp, red; "flat"\tlesion'],
        ["b.png", f"two lines:{end}the second, and{end}{end}a third"],
        ["c.png", "a\u2028b\u2029c\u0085d"],
        ["d.png", "x" * 200_000],
    ]
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter, lineterminator=end).writerows([["file_name", "text"], *wanted])
    table = read_table(write(tmp_path, mark + stream.getvalue()), ("file_name", "text"))
    assert [list(row.cells.values()) for row in table.rows] == wanted
    assert [row.line for row in table.rows] == [2, 3, 7, 8]
    assert table.delimiter == delimiter
    assert csv.field_size_limit() == 131_072


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("\ufeff\u200b", "is empty"),
        ("a.png,a polyp\n", "line 1: got 'a.png,a polyp', without 'file_name'"),
        ("file_name|text\na.png|x\n", r"line 1: .*separated by '\|'; the separator is ';' or ','"),
        ("file_name,text,text\n", "line 1: has the column 'text' twice"),
        ('file_name,"text\na.png,x\n', "line 1"),
        (HEAD + "a.png,a polyp, red\nb.png,x\n", r"line 2: 3 fields.*'a.png,a polyp, red'.*double quotes"),
        (HEAD + "a.png,x\nb.png\n", "line 3: 1 fields"),
        # the closing quotation mark is missing, then the opening one, then one of each
        (HEAD + 'a.png,x\nb.png,"one\nc.png,two\n', "line 3: not CSV"),
        (HEAD + 'a.png,x\nb.png,"one\nc.png,"two"\n', "line 3: "),
        (HEAD + 'a.png,x\nb.png,one"\nc.png,two\n', "line 3: a quotation mark without its partner"),
        (HEAD + 'a.png,"one\nb.png,two\nc.png,three"\n', "line 2: .*spans another row, 'b.png,two'"),
        (HEAD + 'a.png, "a polyp"\n', "line 2: a space before a quotation mark"),
        ('n;text;file_name\n1;"a;b\n2;c;d";e\n', "line 2: .*spans another row"),
        ("file_name,text,\na.png,x,lost\n", "line 2: a cell in a column without a name"),
    ],
)
def test_no_row_is_glued_or_cut(tmp_path: Path, content: str, said: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(PromptoptError, match=said) as error:
        read_table(path, ("file_name", "text"))
    assert str(path) in str(error.value)


def test_the_header_may_be_in_any_case_and_blank_lines_are_counted(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, " TEXT ;File_Name\n\nx;a.png\n"), ("file_name", "text"), any_case=True)
    assert table.columns == ("text", "file_name")
    assert table.blank == (2,)
    assert [(row.line, row.cells) for row in table.rows] == [(3, {"text": "x", "file_name": "a.png"})]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a polyp\ncafé\n".encode("cp1252"), "line 2: not UTF-8 at byte 11 .*Windows-1252 it would be 'é'"),
        ("\ufeffé".encode() + b"\xe9", "not UTF-8 at byte 5 "),
        ("a polyp".encode("utf-16"), "it is UTF-16.*Save the file as UTF-8"),
        ("a polyp".encode("utf-16-le"), "UTF-16 without a byte order mark.*Save"),
        ("a polyp".encode("utf-32"), "it is UTF-32.*Save"),
        (b"a polyp of the\r\ncol\0on ascendens\r\n", "line 2: holds a NUL"),
    ],
)
def test_other_encodings_are_refused_by_name(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(PromptoptError, match=said):
        read_text(write(tmp_path, content))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptoptError, match=r"none.csv: no such file. Write one."):
        read_text(tmp_path / "none.csv", remedy="Write one.")
    with pytest.raises(PromptoptError, match="cannot be read"):
        read_text(tmp_path)


def test_only_line_ends_end_a_json_line(tmp_path: Path) -> None:
    wanted = [{"text": "a\u2028b\u2029c\u0085d\x0b"}, {"text": "e\nf"}, {"text": "😀"}]
    lines = [json.dumps(one, ensure_ascii=False).replace("\\u000b", "\\u000b") for one in wanted]
    lines.insert(1, "")
    for end in ("\n", "\r\n", "\r"):
        path = write(tmp_path, "\ufeff" + end.join(lines), "a.jsonl")
        assert list(json_lines(path)) == list(zip((1, 3, 4), wanted, strict=True))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{'a': 1}", "line 2, column 2: not JSON"),
        ("[1]", r"line 2: got '\[1\]'"),
        ('{"a": NaN}', "line 2: NaN is not"),
        ('{"a": 1, "a": 2}', "line 2: key 'a' comes twice"),
        ('{"a": "\\ud800"}', "line 2: holds half a surrogate pair"),
        ("[" * 100_000, "line 2: nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "line 2: not JSON"),
    ],
)
def test_a_line_that_is_no_object_is_refused(tmp_path: Path, line: str, said: str) -> None:
    path = write(tmp_path, f'{{"a": 1}}\n{line}\n', "a.jsonl")
    with pytest.raises(PromptoptError, match=said):
        list(json_lines(path))


def test_names_that_differ_in_case_or_form_are_recognized(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "müller.png")
    (tmp_path / "Images").mkdir()
    (tmp_path / "Images" / decomposed).touch()
    assert near_name(tmp_path, "images/müller.png") == f"Images/{decomposed}"
    assert near_name(tmp_path, "images/miller.png") is None
    assert difference("müller.png", decomposed) == "in the Unicode form of its letters (NFC here, NFD there)"
    assert difference("a.PNG", "a.png") == "in upper and lower case"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\x0b", "\u2028", "\u0085"])
def test_text_of_several_lines_is_shown_on_one(end: str) -> None:
    assert one_line(f"a polyp,{end}red{end}") == "a polyp, ⏎ red"
    assert one_line("a\tb\x1b[31m") == "a b [31m"
    assert one_line(" as it is ") == " as it is "
