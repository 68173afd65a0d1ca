"""No request is dropped by an update or a drain, and by a crash only those that were on the crashed Unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.traffic import stories
from tests.traffic.stories import BY, Stage, Story, stage

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", params=BY)
def on(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("traffic"), request.param) as built:
        yield built


# In this order: the drain leaves one Unit.
@pytest.mark.parametrize("tell", [stories.hiccup, stories.crash, stories.loss, stories.update, stories.drain])
def test_no_request_is_dropped(
    on: Stage, tell: Callable[[Stage], Story], capsys: pytest.CaptureFixture[str]
) -> None:
    story = tell(on)
    with capsys.disabled():
        print(f"\n{on.by}, {story.numbers}")  # noqa: T201 (figures, for whoever watches)
    assert not story.dropped, f"{story.dropped}\n{on.balancer.said}"
    assert len(story.client.results) > 40
    answered = story.client.answered_by()
    assert set(answered) == {"chat-1", "chat-2"}
    assert len(story.excused) < 20  # of what one Unit had under way
