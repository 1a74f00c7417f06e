"""What a study opens: the phantom of a hospital lies beside the others in the store."""

from promptopt.config.study_file import PhantomSettings
from promptopt.study.opening import phantom_data


def test_each_hospital_has_a_folder_of_its_own_and_changes_no_other(tmp_path):
    home = phantom_data(PhantomSettings(images=60, size=16), tmp_path)
    before = {path: path.read_bytes() for path in home.root.rglob("*") if path.is_file()}
    coast = phantom_data(PhantomSettings(images=20, test=20, size=16, hospital="coast"), tmp_path)
    more = phantom_data(PhantomSettings(images=20, test=30, size=16, hospital="coast"), tmp_path)
    assert "coast" in coast.root.name
    assert len({home.root, coast.root, more.root}) == 3
    assert {path: path.read_bytes() for path in home.root.rglob("*") if path.is_file()} == before
    assert (len(home), len(coast), len(more)) == (60, 80, 100)
    assert phantom_data(PhantomSettings(images=20, test=20, size=16, hospital="coast"), tmp_path) == coast
