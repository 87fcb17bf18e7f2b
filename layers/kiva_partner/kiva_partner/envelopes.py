"""What a message is wrapped in, or written as, when it is not the JSON that it should be: named, and not unwrapped.

Whoever sends it learns what to change. Sources: Amazon SNS Developer Guide, "Raw message delivery"; Amazon EventBridge
User Guide, "Input transformation"; Amazon SQS Extended Client Library (`PayloadS3Pointer`).
"""

import re

_POINTERS = ("software.amazon.payloadoffloading.", "com.amazon.sqs.javamessaging.")


def around(document: object) -> str | None:
    """What a JSON document is instead of a message, as a rule that it breaks; None where nothing is known of it."""
    match document:
        case {"Type": str(), "TopicArn": str(), "Message": _}:
            return "is a notification of SNS around a message; turn on raw message delivery for the subscription"
        case {"detail-type": _, "detail": _}:
            return "is an event of EventBridge around a message; give the rule's target the input path $.detail"
        case {"Records": list()}:
            return "is an event of AWS with Records (S3, SNS, SQS …); send the message itself"
        case [str(name), dict()] if name.startswith(_POINTERS):
            return (
                "is a pointer of the SQS extended client; send the message itself, a long list as several messages, "
                "and a large photo through `photo`"
            )
        case str() if document.lstrip()[:1] in ("{", "["):
            return "is JSON written as a text once more; send it without the outer quotes and their backslashes"
    return None


def instead_of_json(text: str) -> str | None:
    """What a text is that is not JSON, as a rule that it breaks; None where nothing is known of it."""
    return next((rule for pattern, rule in _BY_BEGINNING if re.match(pattern, text)), None)


_BY_BEGINNING = (
    ("\ufeff", "begins with a byte order mark (U+FEFF); send it without"),
    (r"\s*<", "is XML or HTML, and must be JSON"),
    (r"\s*[{\[]\s*'", "is written with single quotes; names and texts of JSON have double ones"),
    (r"H4sI[A-Za-z0-9+/=\s]*\Z", "is gzip in base64; send the JSON itself"),
    (r"(eyJ|eyAi|ewo|ewog|ew0K|W3s|Wwo)[A-Za-z0-9+/=\s]*\Z", "is in base64; send the JSON itself"),
    (r"(%7B|%5B)[!-~]*\Z", "is percent-encoded; send the JSON itself"),
    (r"[A-Za-z_][A-Za-z0-9_.\[\]%-]*=", "is form-encoded, and must be JSON"),
    (
        r'"?[A-Za-z_ ]+"?([,;\t]"?[A-Za-z_ ]+"?)+\r?\n',
        "is CSV, and must be JSON; the relay command sends CSV files",
    ),
)
