from copy import replace

import pytest

from kiva_partner.catalogue import MOST_BYTES, REMEMBERED_SECONDS, TRUSTED_SECONDS, Catalogue, Catalogues
from kiva_sandbox.data import CONFIG


@pytest.fixture
def catalogues(table, clock):
    """A new execution environment."""
    return lambda: Catalogues(lambda: table, "ledger", "stage#9001", clock=clock)


@pytest.fixture
def lists(clock):
    return Catalogue.of(lambda name: {name: CONFIG[name]}, clock.now)


def test_kivas_lists_are_kept_as_far_as_drafts_choose_from_them(lists):
    assert lists.activities == {12, 20, 33, 47, 61, 78, 90}
    assert lists.languages == {1, 3, 4}
    assert lists.currencies == {"KES", "XOF", "TJS"}
    assert "São Domingos: Guinea-Bissau" in lists.locations


@pytest.mark.parametrize("row", [None, "Green", 7, {}, {"theme_type_id": "1"}, {"theme_type_id": None}])
def test_a_row_that_is_none_of_kivas_is_passed_over(row):
    found = Catalogue.of(lambda name: {name: [row]}, 0.0)
    assert found.themes == frozenset()


def test_what_one_saves_all_read(catalogues, lists):
    catalogues().save(lists)
    assert catalogues().current() == lists


def test_before_the_first_fetch_there_are_none(catalogues):
    assert catalogues().load() is None
    assert catalogues().current() is None


def test_lists_older_than_a_day_are_not_trusted(catalogues, lists, clock):
    catalogues().save(lists)
    clock.advance(TRUSTED_SECONDS - 1)
    assert catalogues().current()
    clock.advance(1)
    assert catalogues().current() is None
    assert catalogues().load() == lists


def test_an_environment_looks_once_in_ten_minutes_whether_there_are_some_or_not(catalogues, lists, clock):
    ours = catalogues()
    assert ours.current() is None
    catalogues().save(lists)
    clock.advance(REMEMBERED_SECONDS)
    assert ours.current() is None
    clock.advance(1)
    assert ours.current() == lists


def test_a_table_that_does_not_answer_costs_a_warning_and_nothing_else(table, clock, caplog):
    def broken():
        raise TimeoutError("canary")

    assert Catalogues(broken, "ledger", "stage#9001", clock=clock).current() is None
    assert "TimeoutError" in caplog.text
    assert "canary" not in caplog.text


@pytest.mark.parametrize("spoilt", [{}, {"lists": {"S": "{}"}}, {"lists": {"S": "{"}}, {"lists": {"N": "1"}}])
def test_a_row_that_cannot_be_read_is_no_catalogue_and_is_fetched_anew(catalogues, table, spoilt):
    table.put_item(TableName="ledger", Item={"pk": {"S": "stage#9001#catalogue"}, **spoilt})
    assert catalogues().load() is None
    assert catalogues().current() is None


def test_more_locations_than_a_row_holds_are_left_out(catalogues, lists, caplog):
    many = frozenset(f"{number:0100}: Kenya" for number in range(MOST_BYTES // 100))
    long = replace(lists, locations=many)
    catalogues().save(long)
    kept = catalogues().current()
    assert kept.locations == frozenset()
    assert kept.activities == lists.activities
    assert "too long" in caplog.text
