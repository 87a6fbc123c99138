from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Wire(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WIRE_FLOAT32: _ClassVar[Wire]
    WIRE_BF16: _ClassVar[Wire]

class RunPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUN_PHASE_UNSPECIFIED: _ClassVar[RunPhase]
    RUN_PHASE_COLLECTING: _ClassVar[RunPhase]
    RUN_PHASE_AGGREGATING: _ClassVar[RunPhase]
    RUN_PHASE_VOTING: _ClassVar[RunPhase]
    RUN_PHASE_COMMITTING: _ClassVar[RunPhase]
    RUN_PHASE_COMPLETED: _ClassVar[RunPhase]
    RUN_PHASE_DIVERGED: _ClassVar[RunPhase]

class Choice(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHOICE_UNSPECIFIED: _ClassVar[Choice]
    CHOICE_INNER: _ClassVar[Choice]
    CHOICE_OUTER: _ClassVar[Choice]

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_NO_IDENTITY: _ClassVar[Reason]
    REASON_WRONG_ROLE: _ClassVar[Reason]
    REASON_NOT_ON_THE_ROSTER: _ClassVar[Reason]
    REASON_REVOKED: _ClassVar[Reason]
    REASON_NO_SUCH_METHOD: _ClassVar[Reason]
    REASON_NO_SUCH_SERVICE: _ClassVar[Reason]
    REASON_TOO_MANY_CALLS: _ClassVar[Reason]
    REASON_RECOVERING: _ClassVar[Reason]
    REASON_INTERNAL_ERROR: _ClassVar[Reason]
    REASON_WRONG_PROTOCOL: _ClassVar[Reason]
    REASON_WRONG_RUN: _ClassVar[Reason]
    REASON_WRONG_TERM: _ClassVar[Reason]
    REASON_NOT_JOINED: _ClassVar[Reason]
    REASON_OLDER_SESSION: _ClassVar[Reason]
    REASON_WRONG_ROUND: _ClassVar[Reason]
    REASON_WRONG_BASE: _ClassVar[Reason]
    REASON_LATE_SUBMISSION: _ClassVar[Reason]
    REASON_EARLY_VOTE: _ClassVar[Reason]
    REASON_MODEL_REPLACED: _ClassVar[Reason]
    REASON_EQUIVOCATION: _ClassVar[Reason]
    REASON_ALREADY_SUBMITTED: _ClassVar[Reason]
    REASON_SECOND_VOTE: _ClassVar[Reason]
    REASON_NO_MESSAGE: _ClassVar[Reason]
    REASON_LONG_MESSAGE: _ClassVar[Reason]
    REASON_NOT_A_MESSAGE: _ClassVar[Reason]
    REASON_LONG_NAME: _ClassVar[Reason]
    REASON_DIFFERENT_TASK: _ClassVar[Reason]
    REASON_DIFFERENT_MODEL: _ClassVar[Reason]
    REASON_DIFFERENT_DIGEST: _ClassVar[Reason]
    REASON_NO_SESSION: _ClassVar[Reason]
    REASON_NO_HEADER: _ClassVar[Reason]
    REASON_NO_CHUNK: _ClassVar[Reason]
    REASON_MIXED_STAMPS: _ClassVar[Reason]
    REASON_WRONG_OFFSET: _ClassVar[Reason]
    REASON_WRONG_LENGTH: _ClassVar[Reason]
    REASON_TOO_MUCH_DATA: _ClassVar[Reason]
    REASON_TOO_MANY_PARTS: _ClassVar[Reason]
    REASON_WRONG_DIGEST: _ClassVar[Reason]
    REASON_NOT_FINITE: _ClassVar[Reason]
    REASON_NO_CHOICE: _ClassVar[Reason]
    REASON_SLOW_MESSAGE: _ClassVar[Reason]
    REASON_SLOW_UPLOAD: _ClassVar[Reason]
    REASON_NEWER_UPLOAD: _ClassVar[Reason]
    REASON_OLDER_SESSION_CLOSED: _ClassVar[Reason]

class Missing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MISSING_UNSPECIFIED: _ClassVar[Missing]
    MISSING_NO_SUBMISSION: _ClassVar[Missing]
    MISSING_GRADIENT_NOT_FINITE: _ClassVar[Missing]
    MISSING_DATA_NOT_READABLE: _ClassVar[Missing]
    MISSING_REVOKED: _ClassVar[Missing]
    MISSING_NO_VOTE: _ClassVar[Missing]
    MISSING_SILENT: _ClassVar[Missing]
WIRE_FLOAT32: Wire
WIRE_BF16: Wire
RUN_PHASE_UNSPECIFIED: RunPhase
RUN_PHASE_COLLECTING: RunPhase
RUN_PHASE_AGGREGATING: RunPhase
RUN_PHASE_VOTING: RunPhase
RUN_PHASE_COMMITTING: RunPhase
RUN_PHASE_COMPLETED: RunPhase
RUN_PHASE_DIVERGED: RunPhase
CHOICE_UNSPECIFIED: Choice
CHOICE_INNER: Choice
CHOICE_OUTER: Choice
REASON_UNSPECIFIED: Reason
REASON_NO_IDENTITY: Reason
REASON_WRONG_ROLE: Reason
REASON_NOT_ON_THE_ROSTER: Reason
REASON_REVOKED: Reason
REASON_NO_SUCH_METHOD: Reason
REASON_NO_SUCH_SERVICE: Reason
REASON_TOO_MANY_CALLS: Reason
REASON_RECOVERING: Reason
REASON_INTERNAL_ERROR: Reason
REASON_WRONG_PROTOCOL: Reason
REASON_WRONG_RUN: Reason
REASON_WRONG_TERM: Reason
REASON_NOT_JOINED: Reason
REASON_OLDER_SESSION: Reason
REASON_WRONG_ROUND: Reason
REASON_WRONG_BASE: Reason
REASON_LATE_SUBMISSION: Reason
REASON_EARLY_VOTE: Reason
REASON_MODEL_REPLACED: Reason
REASON_EQUIVOCATION: Reason
REASON_ALREADY_SUBMITTED: Reason
REASON_SECOND_VOTE: Reason
REASON_NO_MESSAGE: Reason
REASON_LONG_MESSAGE: Reason
REASON_NOT_A_MESSAGE: Reason
REASON_LONG_NAME: Reason
REASON_DIFFERENT_TASK: Reason
REASON_DIFFERENT_MODEL: Reason
REASON_DIFFERENT_DIGEST: Reason
REASON_NO_SESSION: Reason
REASON_NO_HEADER: Reason
REASON_NO_CHUNK: Reason
REASON_MIXED_STAMPS: Reason
REASON_WRONG_OFFSET: Reason
REASON_WRONG_LENGTH: Reason
REASON_TOO_MUCH_DATA: Reason
REASON_TOO_MANY_PARTS: Reason
REASON_WRONG_DIGEST: Reason
REASON_NOT_FINITE: Reason
REASON_NO_CHOICE: Reason
REASON_SLOW_MESSAGE: Reason
REASON_SLOW_UPLOAD: Reason
REASON_NEWER_UPLOAD: Reason
REASON_OLDER_SESSION_CLOSED: Reason
MISSING_UNSPECIFIED: Missing
MISSING_NO_SUBMISSION: Missing
MISSING_GRADIENT_NOT_FINITE: Missing
MISSING_DATA_NOT_READABLE: Missing
MISSING_REVOKED: Missing
MISSING_NO_VOTE: Missing
MISSING_SILENT: Missing

class Stamp(_message.Message):
    __slots__ = ("protocol", "run", "term", "round")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    run: str
    term: int
    round: int
    def __init__(self, protocol: _Optional[int] = ..., run: _Optional[str] = ..., term: _Optional[int] = ..., round: _Optional[int] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("offset", "data")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class Head(_message.Message):
    __slots__ = ("round", "hash")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    round: int
    hash: str
    def __init__(self, round: _Optional[int] = ..., hash: _Optional[str] = ...) -> None: ...

class JoinRequest(_message.Message):
    __slots__ = ("stamp", "session", "task", "parameters", "digest_scheme", "head", "holds", "layout_digest", "layout", "constants", "data_not_readable")
    STAMP_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    DIGEST_SCHEME_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    CONSTANTS_FIELD_NUMBER: _ClassVar[int]
    DATA_NOT_READABLE_FIELD_NUMBER: _ClassVar[int]
    stamp: Stamp
    session: str
    task: str
    parameters: int
    digest_scheme: str
    head: Head
    holds: _containers.RepeatedScalarFieldContainer[str]
    layout_digest: str
    layout: _containers.RepeatedCompositeFieldContainer[Parameter]
    constants: str
    data_not_readable: str
    def __init__(self, stamp: _Optional[_Union[Stamp, _Mapping]] = ..., session: _Optional[str] = ..., task: _Optional[str] = ..., parameters: _Optional[int] = ..., digest_scheme: _Optional[str] = ..., head: _Optional[_Union[Head, _Mapping]] = ..., holds: _Optional[_Iterable[str]] = ..., layout_digest: _Optional[str] = ..., layout: _Optional[_Iterable[_Union[Parameter, _Mapping]]] = ..., constants: _Optional[str] = ..., data_not_readable: _Optional[str] = ...) -> None: ...

class Parameter(_message.Message):
    __slots__ = ("name", "shape")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class JoinResponse(_message.Message):
    __slots__ = ("stamp", "position", "workers", "byzantine", "rule", "two_phase", "rounds", "parameters", "wanted", "gamma", "wire")
    STAMP_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    BYZANTINE_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    TWO_PHASE_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    GAMMA_FIELD_NUMBER: _ClassVar[int]
    WIRE_FIELD_NUMBER: _ClassVar[int]
    stamp: Stamp
    position: int
    workers: int
    byzantine: int
    rule: str
    two_phase: bool
    rounds: int
    parameters: int
    wanted: str
    gamma: float
    wire: Wire
    def __init__(self, stamp: _Optional[_Union[Stamp, _Mapping]] = ..., position: _Optional[int] = ..., workers: _Optional[int] = ..., byzantine: _Optional[int] = ..., rule: _Optional[str] = ..., two_phase: _Optional[bool] = ..., rounds: _Optional[int] = ..., parameters: _Optional[int] = ..., wanted: _Optional[str] = ..., gamma: _Optional[float] = ..., wire: _Optional[_Union[Wire, str]] = ...) -> None: ...

class BroadcastRequest(_message.Message):
    __slots__ = ("stamp", "after", "holds", "average", "session")
    STAMP_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    stamp: Stamp
    after: int
    holds: _containers.RepeatedScalarFieldContainer[str]
    average: bool
    session: str
    def __init__(self, stamp: _Optional[_Union[Stamp, _Mapping]] = ..., after: _Optional[int] = ..., holds: _Optional[_Iterable[str]] = ..., average: _Optional[bool] = ..., session: _Optional[str] = ...) -> None: ...

class ModelPart(_message.Message):
    __slots__ = ("stamp", "header", "chunk")
    STAMP_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    stamp: Stamp
    header: ModelHeader
    chunk: Chunk
    def __init__(self, stamp: _Optional[_Union[Stamp, _Mapping]] = ..., header: _Optional[_Union[ModelHeader, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ...) -> None: ...

class ModelHeader(_message.Message):
    __slots__ = ("digests", "follow", "parameters", "head", "phase", "decided")
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    DECIDED_FIELD_NUMBER: _ClassVar[int]
    digests: _containers.RepeatedScalarFieldContainer[str]
    follow: _containers.RepeatedScalarFieldContainer[str]
    parameters: int
    head: Head
    phase: RunPhase
    decided: Commit
    def __init__(self, digests: _Optional[_Iterable[str]] = ..., follow: _Optional[_Iterable[str]] = ..., parameters: _Optional[int] = ..., head: _Optional[_Union[Head, _Mapping]] = ..., phase: _Optional[_Union[RunPhase, str]] = ..., decided: _Optional[_Union[Commit, _Mapping]] = ...) -> None: ...

class MomentumPart(_message.Message):
    __slots__ = ("stamp", "header", "chunk")
    STAMP_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    stamp: Stamp
    header: MomentumHeader
    chunk: Chunk
    def __init__(self, stamp: _Optional[_Union[Stamp, _Mapping]] = ..., header: _Optional[_Union[MomentumHeader, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ...) -> None: ...

class MomentumHeader(_message.Message):
    __slots__ = ("base", "parameters", "session", "digest", "loss", "not_finite")
    BASE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    NOT_FINITE_FIELD_NUMBER: _ClassVar[int]
    base: str
    parameters: int
    session: str
    digest: str
    loss: float
    not_finite: bool
    def __init__(self, base: _Optional[str] = ..., parameters: _Optional[int] = ..., session: _Optional[str] = ..., digest: _Optional[str] = ..., loss: _Optional[float] = ..., not_finite: _Optional[bool] = ...) -> None: ...

class SubmitMomentumResponse(_message.Message):
    __slots__ = ("stamp", "uploaded")
    STAMP_FIELD_NUMBER: _ClassVar[int]
    UPLOADED_FIELD_NUMBER: _ClassVar[int]
    stamp: Stamp
    uploaded: bool
    def __init__(self, stamp: _Optional[_Union[Stamp, _Mapping]] = ..., uploaded: _Optional[bool] = ...) -> None: ...

class RestoreResponse(_message.Message):
    __slots__ = ("stamp",)
    STAMP_FIELD_NUMBER: _ClassVar[int]
    stamp: Stamp
    def __init__(self, stamp: _Optional[_Union[Stamp, _Mapping]] = ...) -> None: ...

class ProposeRequest(_message.Message):
    __slots__ = ("stamp", "holds", "session")
    STAMP_FIELD_NUMBER: _ClassVar[int]
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    stamp: Stamp
    holds: _containers.RepeatedScalarFieldContainer[str]
    session: str
    def __init__(self, stamp: _Optional[_Union[Stamp, _Mapping]] = ..., holds: _Optional[_Iterable[str]] = ..., session: _Optional[str] = ...) -> None: ...

class VoteRequest(_message.Message):
    __slots__ = ("stamp", "session", "choice", "inner_loss", "outer_loss")
    STAMP_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    INNER_LOSS_FIELD_NUMBER: _ClassVar[int]
    OUTER_LOSS_FIELD_NUMBER: _ClassVar[int]
    stamp: Stamp
    session: str
    choice: Choice
    inner_loss: float
    outer_loss: float
    def __init__(self, stamp: _Optional[_Union[Stamp, _Mapping]] = ..., session: _Optional[str] = ..., choice: _Optional[_Union[Choice, str]] = ..., inner_loss: _Optional[float] = ..., outer_loss: _Optional[float] = ...) -> None: ...

class Commit(_message.Message):
    __slots__ = ("head", "winner", "digest")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    WINNER_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    head: Head
    winner: Choice
    digest: str
    def __init__(self, head: _Optional[_Union[Head, _Mapping]] = ..., winner: _Optional[_Union[Choice, str]] = ..., digest: _Optional[str] = ...) -> None: ...

class VoteResponse(_message.Message):
    __slots__ = ("stamp", "commit", "phase")
    STAMP_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    stamp: Stamp
    commit: Commit
    phase: RunPhase
    def __init__(self, stamp: _Optional[_Union[Stamp, _Mapping]] = ..., commit: _Optional[_Union[Commit, _Mapping]] = ..., phase: _Optional[_Union[RunPhase, str]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("reason", "term", "round")
    REASON_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    reason: Reason
    term: int
    round: int
    def __init__(self, reason: _Optional[_Union[Reason, str]] = ..., term: _Optional[int] = ..., round: _Optional[int] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ("stamp",)
    STAMP_FIELD_NUMBER: _ClassVar[int]
    stamp: Stamp
    def __init__(self, stamp: _Optional[_Union[Stamp, _Mapping]] = ...) -> None: ...

class RefusedCount(_message.Message):
    __slots__ = ("worker", "reason", "count")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    worker: str
    reason: Reason
    count: int
    def __init__(self, worker: _Optional[str] = ..., reason: _Optional[_Union[Reason, str]] = ..., count: _Optional[int] = ...) -> None: ...

class MissingCount(_message.Message):
    __slots__ = ("worker", "reason", "rounds")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    worker: str
    reason: Missing
    rounds: int
    def __init__(self, worker: _Optional[str] = ..., reason: _Optional[_Union[Missing, str]] = ..., rounds: _Optional[int] = ...) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("stamp", "phase", "rounds", "rule", "task", "roster", "byzantine", "inner_wins", "outer_wins", "awaited", "absent", "reported_loss", "winner_votes", "loser_votes", "last_winner", "seconds", "seconds_to_first_commit", "bytes_received", "bytes_sent", "peak_bytes", "waiting", "committed", "revoked", "data_not_readable", "refused", "missing")
    class DataNotReadableEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    STAMP_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    BYZANTINE_FIELD_NUMBER: _ClassVar[int]
    INNER_WINS_FIELD_NUMBER: _ClassVar[int]
    OUTER_WINS_FIELD_NUMBER: _ClassVar[int]
    AWAITED_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    REPORTED_LOSS_FIELD_NUMBER: _ClassVar[int]
    WINNER_VOTES_FIELD_NUMBER: _ClassVar[int]
    LOSER_VOTES_FIELD_NUMBER: _ClassVar[int]
    LAST_WINNER_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_TO_FIRST_COMMIT_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    DATA_NOT_READABLE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    stamp: Stamp
    phase: RunPhase
    rounds: int
    rule: str
    task: str
    roster: _containers.RepeatedScalarFieldContainer[str]
    byzantine: int
    inner_wins: int
    outer_wins: int
    awaited: _containers.RepeatedScalarFieldContainer[str]
    absent: _containers.RepeatedScalarFieldContainer[str]
    reported_loss: float
    winner_votes: int
    loser_votes: int
    last_winner: Choice
    seconds: float
    seconds_to_first_commit: float
    bytes_received: int
    bytes_sent: int
    peak_bytes: int
    waiting: str
    committed: Commit
    revoked: _containers.RepeatedScalarFieldContainer[str]
    data_not_readable: _containers.ScalarMap[str, str]
    refused: _containers.RepeatedCompositeFieldContainer[RefusedCount]
    missing: _containers.RepeatedCompositeFieldContainer[MissingCount]
    def __init__(self, stamp: _Optional[_Union[Stamp, _Mapping]] = ..., phase: _Optional[_Union[RunPhase, str]] = ..., rounds: _Optional[int] = ..., rule: _Optional[str] = ..., task: _Optional[str] = ..., roster: _Optional[_Iterable[str]] = ..., byzantine: _Optional[int] = ..., inner_wins: _Optional[int] = ..., outer_wins: _Optional[int] = ..., awaited: _Optional[_Iterable[str]] = ..., absent: _Optional[_Iterable[str]] = ..., reported_loss: _Optional[float] = ..., winner_votes: _Optional[int] = ..., loser_votes: _Optional[int] = ..., last_winner: _Optional[_Union[Choice, str]] = ..., seconds: _Optional[float] = ..., seconds_to_first_commit: _Optional[float] = ..., bytes_received: _Optional[int] = ..., bytes_sent: _Optional[int] = ..., peak_bytes: _Optional[int] = ..., waiting: _Optional[str] = ..., committed: _Optional[_Union[Commit, _Mapping]] = ..., revoked: _Optional[_Iterable[str]] = ..., data_not_readable: _Optional[_Mapping[str, str]] = ..., refused: _Optional[_Iterable[_Union[RefusedCount, _Mapping]]] = ..., missing: _Optional[_Iterable[_Union[MissingCount, _Mapping]]] = ...) -> None: ...
