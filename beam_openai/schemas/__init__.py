"""What the answers of a model are to look like: one description as JSON schema, as Arrow fields, and as a parser.

    JSON schema                  Arrow
    object with properties       struct; the outermost one's properties are columns
    array                        list
    string, enum of strings      string
    integer, number, boolean     int64, double, bool
    X or null                    X
    anything else                string: the value's JSON

Of a `pa.Schema` no value may be null, whatever its fields say: all are nullable unless told otherwise, and a model that may
answer null does. What may be missing is said by a JSON schema, a pydantic model or a dataclass.

`described` makes JSON schema of a description, `kinds` says what becomes of it in Arrow, `schema` reads answers.
"""

from beam_openai.schemas.schema import Schema

__all__ = ["Schema"]
