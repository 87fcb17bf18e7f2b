"""A draft of a borrower whose name and story must be seen nowhere but at Kiva."""

NAME = "Zebedea"
STORY = "to buy quillfeathers."


def draft(number=1, **changes):
    entrep = {"client_id": f"C-{number}", "loan_id": f"L-{number}", "first_name": NAME, "gender": "female"}
    return {"currency": "KES", "loanuse": STORY, "entreps": [{**entrep, "amount": 600}], **changes}
