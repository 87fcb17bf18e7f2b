"""What Lambda hands to a function: a batch of SQS, and a request of API Gateway."""


def batch(*bodies):
    """Messages m0, m1, …, each delivered for the first time."""
    return {
        "Records": [
            {
                "messageId": f"m{number}",
                "receiptHandle": f"handle-{number}",
                "body": body,
                "attributes": {"ApproximateReceiveCount": "1"},
            }
            for number, body in enumerate(bodies)
        ]
    }


def request(method, path, body=None, *, headers=None, query=None, by="arn:aws:iam::000000000000:user/wanjiku"):
    return {
        "httpMethod": method,
        "path": path,
        "headers": headers or {},
        "queryStringParameters": query or None,
        "body": body,
        "isBase64Encoded": False,
        "requestContext": {"stage": "x", "identity": {"userArn": by}},
    }
