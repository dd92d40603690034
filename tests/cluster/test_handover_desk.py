"""What the front remembers of hand-overs: who is told what, whatever ends."""

from artesian.cluster.base import MemberRecord
from artesian.cluster.handovers import HandoverDesk
from artesian.cluster.loads import LoadView
from artesian.cluster.member import Member
from artesian.cluster.policies import BalancedMap
from artesian.cluster.speed import SpeedMeter
from artesian.engine.base import EngineInfo, EngineStats
from artesian.engine.handover import Placement, PrefillDone, PrefillJob
from artesian.worker.client import Role
from artesian.worker.hooks import Hooks
from artesian.worker.messages import CancelPrefill, Command, EndPrefill, Prefill

PLACEMENT = Placement(region="r-p1", slot=0, generation=1, num_tokens=9, max_tokens=32)


class Told(Member):
    """A worker that is ready and notes what it is sent."""

    def __init__(self, worker_id: str, role: Role) -> None:
        self.record = MemberRecord(
            worker_id=worker_id, generation=1, role=role, pid=1, region=f"r-{worker_id}"
        )
        self.info = EngineInfo(model_name="toy", max_model_len=64, vocab_size=9)
        self.streams = {}
        self.stats = EngineStats()
        self.speed = SpeedMeter()
        self.heard = 0.0
        self.is_silent = False
        self.told: list[Command] = []

    def send(self, command: Command) -> None:
        self.told.append(command)


class Scene:
    """One worker that decodes, two that prefill, and the desk."""

    def __init__(self) -> None:
        self.decode = Told("d1", "decode")
        self.prefills = [Told("p1", "prefill"), Told("p2", "prefill")]
        self.desk = HandoverDesk(BalancedMap(), LoadView(8, 32), Hooks(), 60.0)

    def want(self, job_id: str = "j", near: str = "") -> Told:
        """Has a job done; who got it."""
        job = PrefillJob(job_id=job_id, request_id="q", token_ids=[1] * 10, near=near)
        self.desk.want(self.decode, job, [self.decode, *self.prefills], 0.0)
        return next(p for p in self.prefills if Prefill(job) in p.told)

    def stay(self) -> Told:
        """Has a job done whose KV stays; who has it."""
        prefill = self.want()
        done = PrefillDone(job_id="j", outcome="done", placement=PLACEMENT)
        self.desk.done(prefill, done)
        assert self.decode.told[-1] == EndPrefill(done)
        prefill.told.clear()
        return prefill


def test_kv_that_stayed_is_let_go_with_its_tokens() -> None:
    scene = Scene()
    prefill = scene.stay()
    scene.desk.unwant(scene.decode, "j", 1.0, [1, 2, 3])
    assert prefill.told == [CancelPrefill("j", [1, 2, 3])]
    scene.desk.unwant(scene.decode, "j", 1.0, [1, 2, 3])
    assert len(prefill.told) == 1, "once"


def test_kv_that_stayed_goes_with_the_worker_that_decodes() -> None:
    scene = Scene()
    prefill = scene.stay()
    scene.desk.leave(scene.decode, "was killed")
    assert prefill.told == [CancelPrefill("j")]


def test_kv_that_stayed_is_forgotten_with_the_worker_that_has_it() -> None:
    scene = Scene()
    prefill = scene.stay()
    scene.desk.leave(prefill, "was killed")
    prefill.told.clear()
    scene.desk.unwant(scene.decode, "j", 1.0, [1])
    assert prefill.told == []


def test_a_job_goes_to_whoever_has_most_of_it() -> None:
    for near in ("r-p1", "r-p2"):
        for _ in range(3):
            assert Scene().want(near=near).record.region == near
    scene = Scene()
    scene.prefills[1].is_silent = True
    assert scene.want(near="r-p2") is scene.prefills[0], "it is ready"
