"""Files that are named after videos and items."""

from mmf.store.exchange.output import file_name


def test_a_file_of_a_long_name_has_a_shorter_one():
    long = [file_name(f"folder/{'長' * 80}{end}.mp4") for end in "ab"]
    assert long[0] != long[1]
    assert all(len(name) < 250 and "/" not in name for name in long)
    assert file_name("a/b c.mp4@0-2.5") == "a%2Fb c.mp4@0-2.5"
