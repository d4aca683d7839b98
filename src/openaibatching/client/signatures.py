"""The official signatures with our return types.

Everything here is for type checkers: at run time each decorator returns the function it is given.
A method keeps the parameters of the official one, in whatever version of the SDK is installed, and
only what it returns is said anew, because the client has made it so. Where the official method is
overloaded for `stream=True`, what is left is the call that does not stream: a batch cannot.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from openai.types.chat import ChatCompletion as OfficialChatCompletion
from openai.types.chat import ParsedChatCompletion as OfficialParsedChatCompletion
from openai.types.responses import Response as OfficialResponse

from openaibatching.types import ChatCompletion, ParsedChatCompletion, Response

P = ParamSpec("P")
Q = ParamSpec("Q")
Was = TypeVar("Was")
Now = TypeVar("Now")
Format = TypeVar("Format")
Method = Callable[..., Any]
Answer = Coroutine[Any, Any, Now]


def returning(
    official: Callable[Concatenate[Any, P], Was], was: type[Was], now: type[Now]
) -> Callable[[Method], Callable[Concatenate[Any, P], Now]]:
    """The decorated method is `official`, which returned `was`, returning `now`."""
    return _unchanged


def async_returning(
    official: Callable[Concatenate[Any, P], Answer[Was]], was: type[Was], now: type[Now]
) -> Callable[[Method], Callable[Concatenate[Any, P], Answer[Now]]]:
    """`returning` for an asynchronous method."""
    return _unchanged


def parsing(
    official: Callable[Concatenate[Any, P], OfficialParsedChatCompletion[Format]],
) -> Callable[[Method], Callable[Concatenate[Any, P], ParsedChatCompletion[Format]]]:
    """The decorated method is `chat.completions.parse`, returning our type."""
    return _unchanged


def async_parsing(
    official: Callable[Concatenate[Any, P], Answer[OfficialParsedChatCompletion[Format]]],
) -> Callable[[Method], Callable[Concatenate[Any, P], Answer[ParsedChatCompletion[Format]]]]:
    """`parsing` for an asynchronous method."""
    return _unchanged


def retrieving(
    official: Callable[Concatenate[Any, P], OfficialResponse],
) -> Callable[[Method], Callable[Concatenate[Any, P], Response | ChatCompletion]]:
    """The decorated method is `responses.retrieve`, which answers in the shape of the call."""
    return _unchanged


def async_retrieving(
    official: Callable[Concatenate[Any, P], Answer[OfficialResponse]],
) -> Callable[[Method], Callable[Concatenate[Any, P], Answer[Response | ChatCompletion]]]:
    """`retrieving` for an asynchronous method."""
    return _unchanged


class Create(Protocol[P, Q]):
    """`responses.create`: with `messages` a chat completion, with `input` a response."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> ChatCompletion: ...
    @overload
    def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> Response: ...


def creating(
    chat: Callable[Concatenate[Any, P], OfficialChatCompletion],
    responses: Callable[Concatenate[Any, Q], OfficialResponse],
) -> Callable[[Method], Create[P, Q]]:
    """The decorated method takes what either of two official methods takes."""
    return _unchanged


class AsyncCreate(Protocol[P, Q]):
    """`Create` for an asynchronous method."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Answer[ChatCompletion]: ...
    @overload
    def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> Answer[Response]: ...


def async_creating(
    chat: Callable[Concatenate[Any, P], Answer[OfficialChatCompletion]],
    responses: Callable[Concatenate[Any, Q], Answer[OfficialResponse]],
) -> Callable[[Method], AsyncCreate[P, Q]]:
    """`creating` for an asynchronous method."""
    return _unchanged


def _unchanged(method: Method) -> Any:
    return method
