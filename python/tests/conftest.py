import pytest
import synthetic

from loggos import runs


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return runs.load(synthetic.write_run(tmp_path_factory.mktemp("failover") / "20260101-000000"))
