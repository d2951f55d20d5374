"""Minified JavaScript as bundlers write it, with names of secrets whose value is code."""

from __future__ import annotations

import random
import string
from collections.abc import Callable

NAMES = (
    "password", "secret", "token", "apiKey", "accessToken", "clientSecret", "refreshToken",
    "passwordConfirm", "cookie", "pwd", "authorization", "credentials", "idToken", "privateKey",
    "secretKey", "csrf_token", "passwordHash2", "api_key",
)  # fmt: skip
_PROPERTIES = (
    "length", "value", "props", "state", "current", "i18n", "base64Url", "data", "user", "headers",
    "sha256", "then", "getElementById", "querySelector", "createHash", "toString", *NAMES,
)  # fmt: skip
_TEXTS = ("click", "#password", "utf-8", "", "password", "secret is required", "use strict")
# Neither - nor / between two names: that looks like a key in groups, as in 123-ABC-456.
_OPERATORS = ("||", "&&", "===", "!==", "==", "!=", "+", "*", "%", "<", ">=", "??", "|")


def javascript(seed: int, size: int) -> str:
    """Return so many characters or a few more."""
    made = _Minified(random.Random(seed))
    parts: list[str] = []
    while size > 0:
        parts.append(made.statement())
        size -= len(parts[-1])
    return "".join(parts)


class _Minified:
    def __init__(self, draw: random.Random) -> None:
        self.draw = draw

    def name(self) -> str:
        first = self.draw.choice(string.ascii_letters + "_$")
        rest = string.ascii_letters + string.digits + "_$"
        return first + self.draw.choice(("", "", self.draw.choice(rest)))

    def text(self) -> str:
        return f'"{self.draw.choice(_TEXTS)}"'

    def path(self) -> str:
        head = self.draw.choice((self.name(), self.name(), "this", "window", "document", "process"))
        parts = self.draw.choices(_PROPERTIES, k=self.draw.randrange(3))
        return self.draw.choice((".", ".", "?.")).join((head, *parts))

    def arguments(self, depth: int) -> str:
        return ",".join(
            self.draw.choice((self.text, lambda: self.value(depth + 1)))()
            for _ in range(self.draw.randrange(3))
        )

    def value(self, depth: int = 0) -> str:
        """Return an expression that does not begin with a text."""
        simple: list[Callable[[], str]] = [
            self.name,
            self.path,
            lambda: self.draw.choice(("!0", "!1", "null", "void 0", "0", "1", "-1", "1e3", "{}")),
        ]
        if depth > 2:
            return self.draw.choice(simple)()

        def inner() -> str:
            return self.value(depth + 1)

        return self.draw.choice(
            [
                *simple,
                lambda: f"{self.path()}({self.arguments(depth)})",
                lambda: f"{self.path()}({self.arguments(depth)}).next()",
                lambda: f"(0,{self.path()})({self.arguments(depth)})",
                lambda: f"{self.path()}[{inner()}]",
                lambda: f"{self.path()}[{self.text()}]",
                lambda: f"!{self.path()}",
                lambda: f"function({self.name()},{self.name()}){{return {inner()}}}",
                lambda: f"{self.name()}=>{inner()}",
                lambda: (
                    f"({self.name()},{self.name()})=>{{{self.path()}({self.arguments(depth)})}}"
                ),
                lambda: f"async {self.name()}=>await {self.path()}()",
                lambda: f"[{inner()},{inner()}]",
                lambda: f"{{{self.draw.choice(NAMES)}:{inner()},value:{inner()}}}",
                lambda: f"{self.path()}{self.draw.choice(_OPERATORS)}{inner()}",
                # (Not "password", which looks like a field if a colon comes next.)
                lambda: f'{self.path()}+"utf-8"',
                lambda: f"{self.path()}?{inner()}:{inner()}",
                lambda: f"new {self.name()}({self.arguments(depth)})",
                lambda: f"typeof {self.path()}",
                lambda: f"{self.name()}.length-1",
                lambda: (
                    f"{self.path()}.slice({self.draw.randrange(9)},{self.draw.randrange(9999)})"
                ),
                lambda: f"{self.path()}({self.draw.randrange(9999)})",
                lambda: "/^(?=.*[a-z]).{8,}$/.test(" + self.name() + ")",
            ]
        )()

    def statement(self) -> str:
        secret, other = self.draw.choice(NAMES), self.draw.choice(NAMES)
        name, value, path = self.name(), self.value(), self.path()
        return self.draw.choice(
            (
                f"var {name}={value},{secret}={self.value()};",
                f"this.{secret}={value};",
                f"{name}.{secret}={value},{name}.{secret}={self.path()};",
                f"{name}.{secret}={name}.token={value};",
                f"let {name}={{{secret}:{value},type:{self.text()},{other}:{self.value()}}};",
                f"const{{{secret}:{name},token:{self.name()}}}={path};",
                f"if({path}.{secret}==={value})return {self.value()};",
                f"function {name}({secret}){{return {secret}?{value}:{self.value()}}}",
                f"{name}({secret}=>{value});",
                f'switch({name}){{case"{secret}":return {value};default:break}}',
                f'{name}.type="password",{name}.{secret}||"password"==={name}.type;',
                f'{name}.headers={{Authorization:"Bearer "+{self.path()}}};',
                f'{name}.headers.Authorization="Bearer "+{value};',
                f"{name}.headers.authorization=`Bearer ${{{self.path()}}}`;",
                f'{name}="https://"+{name}+":"+{self.path()}+"@"+{self.name()};',
                f"{name}='https://'+{name}+':'+{self.name()}+'@'+{self.name()};",
                f"{name}=`https://${{{self.name()}}}:${{{self.name()}}}@${{{self.name()}}}`;",
                f'document.cookie={name}+"="+{self.name()}+";path=/";',
                f'document.cookie="name="+{name}+"; path=/; max-age=0";',
                f"var sig={self.path()},{name}=1;sig=getSignatureOfWhateverThisIs({name});",
                f"for(var {name} in {path})void 0!=={path}.{secret}&&{path}();",
                f"try{{{self.path()}({self.arguments(0)})}}catch({name}){{throw {self.value()}}}",
            )
        )
