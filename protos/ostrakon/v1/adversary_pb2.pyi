from ostrakon.v1 import parameter_server_pb2 as _parameter_server_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VectorPart(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: VectorHeader
    chunk: _parameter_server_pb2.Chunk
    def __init__(self, header: _Optional[_Union[VectorHeader, _Mapping]] = ..., chunk: _Optional[_Union[_parameter_server_pb2.Chunk, _Mapping]] = ...) -> None: ...

class VectorHeader(_message.Message):
    __slots__ = ("run", "round", "base", "parameters", "digest", "plot")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PLOT_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    base: str
    parameters: int
    digest: str
    plot: Plot
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., base: _Optional[str] = ..., parameters: _Optional[int] = ..., digest: _Optional[str] = ..., plot: _Optional[_Union[Plot, _Mapping]] = ...) -> None: ...

class Plot(_message.Message):
    __slots__ = ("attack", "rule", "workers", "byzantine")
    ATTACK_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    BYZANTINE_FIELD_NUMBER: _ClassVar[int]
    attack: str
    rule: str
    workers: int
    byzantine: int
    def __init__(self, attack: _Optional[str] = ..., rule: _Optional[str] = ..., workers: _Optional[int] = ..., byzantine: _Optional[int] = ...) -> None: ...

class VoteCopy(_message.Message):
    __slots__ = ("run", "round", "choice")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    choice: _parameter_server_pb2.Choice
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., choice: _Optional[_Union[_parameter_server_pb2.Choice, str]] = ...) -> None: ...

class CopyResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ConspireVoteRequest(_message.Message):
    __slots__ = ("run", "round")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ...) -> None: ...

class ConspireVoteResponse(_message.Message):
    __slots__ = ("choice",)
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    choice: _parameter_server_pb2.Choice
    def __init__(self, choice: _Optional[_Union[_parameter_server_pb2.Choice, str]] = ...) -> None: ...
