"""What the answers of a model are to look like: one description as JSON schema, as Arrow fields, and as a parser.

    JSON schema                  Arrow
    object with properties       struct; the outermost one's properties are columns
    array                        list
    string                       string
    integer, number, boolean     int64, double, bool
    enum, const                  that of the values
    X or null                    X
    several types, or itself     string: the value's JSON

Of a `pa.Schema` no value may be null, whatever its fields say: all are nullable unless told otherwise, and a model that may
answer null does. What may be missing is said by a JSON schema, a pydantic model or a dataclass.

It is sent in the strict form of OpenAI's structured outputs, and what that has no words for is refused when it is described:
objects whose properties have no names, tuples, values of any type. A schema may hold itself; in Arrow that is JSON.

`described` makes JSON schema of a description, `shapes` refuses what is none, `strict` puts it into the strict form,
`references` finds what a `$ref` names, `kinds` says what becomes of it in Arrow, `schema` reads answers.
"""

from beam_openai.schemas.schema import Schema

__all__ = ["Schema"]
