import pytest

from pipeline.datasets.download.member_names import check_part, shown, split_path


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a", ("a",)),
        ("a/b(0, 0, 1.8)_1.npy", ("a", "b(0, 0, 1.8)_1.npy")),
        ("./a/b", ("a", "b")),
        (".", ()),
        ("./", ()),
        (".hidden/..b/c..", (".hidden", "..b", "c..")),
        ("stra\u00dfe", ("stra\u00dfe",)),
        ("x" * 240, ("x" * 240,)),
    ],
)
def test_a_plain_relative_name_is_split_into_its_parts(name: str, parts: tuple[str, ...]):
    assert split_path(name) == parts


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("/etc/passwd", "has an absolute name"),
        ("//host/share", "has an absolute name"),
        ("/", "has an absolute name"),
        ("", "has an empty part in its name"),
        ("a//b", "has an empty part in its name"),
        ("a/", "has an empty part in its name"),
        (".//etc", "has an empty part in its name"),
        ("..", "has '..' in its name"),
        ("../a", "has '..' in its name"),
        ("a/../../b", "has '..' in its name"),
        ("a/./b", "has '.' in its name"),
        ("././a", "has '.' in its name"),
        ("a\\..\\b", "has a slash or backslash in its name"),
        ("C:/windows", "has a drive letter in its name"),
        ("a/c:b", "has a drive letter in its name"),
        ("a\0b", "has a control character in its name"),
        ("a\nb", "has a control character in its name"),
        ("a\x7f", "has a control character in its name"),
        ("x" * 241, "has a part of more than 240 bytes in its name"),
        ("\u00df" * 121, "has a part of more than 240 bytes in its name"),
        ("a/" * 512 + "b", "has a name of more than 1024 bytes"),
    ],
)
def test_any_other_name_is_refused_with_what_is_wrong(name: str, finding: str):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the finding is compared
        split_path(name)
    assert str(caught.value) == finding


@pytest.mark.parametrize("part", ["a/b", "\ud800", "..", ""])
def test_a_part_is_the_name_of_one_file(part: str):
    with pytest.raises(ValueError, match="name"):
        check_part(part)


def test_a_name_is_shown_in_ascii_and_short():
    assert shown("a\nb\u00df") == "'a\\nb\\xdf'"
    assert len(shown("x" * 5000)) < 130
