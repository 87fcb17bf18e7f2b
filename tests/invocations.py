"""What Lambda hands to a function: a batch of SQS, and a request of API Gateway."""

import re
import time
from functools import cache

from template.cloudformation import of_type, read


def batch(*bodies, attributes=None, delivery=1, age=0):
    """Messages m0, m1, …, each in its first or a later delivery, sent `age` seconds ago.

    `attributes` are those that SQS shows of each.
    """
    sent_at = str(int((time.time() - age) * 1000))
    shown = {
        name: {"stringValue": each["StringValue"], "dataType": each["DataType"]}
        for name, each in (attributes or {}).items()
    }
    return {
        "Records": [
            {
                "messageId": f"m{number}",
                "receiptHandle": f"handle-{number}",
                "body": body,
                "eventSource": "aws:sqs",
                "attributes": {"ApproximateReceiveCount": str(delivery), "SentTimestamp": sent_at},
                "messageAttributes": shown,
            }
            for number, body in enumerate(bodies)
        ]
    }


def request(
    method, path, body=None, *, headers=None, query=None, by="arn:aws:iam::000000000000:user/wanjiku", base_path=""
):
    """As API Gateway hands it on: parameters of the path as they came; `base_path` is that of a custom domain."""
    resource, parameters = _place(path)
    return {
        "httpMethod": method,
        "path": base_path + path,
        "resource": resource,
        "pathParameters": parameters or None,
        "headers": headers or {},
        "queryStringParameters": query or None,
        "body": body,
        "isBase64Encoded": False,
        "requestContext": {
            "stage": "x",
            "resourcePath": resource,
            "path": base_path + path,
            "identity": {"userArn": by},
        },
    }


@cache
def routes():
    """The routes of the template: method and path."""
    functions = of_type(read(), "AWS::Serverless::Function").values()
    events = [event["Properties"] for function in functions for event in function.get("Events", {}).values()]
    return sorted((event["Method"], event["Path"]) for event in events if "Path" in event)


def _place(path):
    """The template's path that a path belongs to, and the values of its parameters; what is none stands for itself."""
    for _, resource in routes():
        if found := re.fullmatch(re.sub(r"{(\w+)}", r"(?P<\1>[^/]*)", resource), path):
            return resource, found.groupdict()
    return path, {}
