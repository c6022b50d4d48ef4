from clients.load_test.report import Report


def page_of(report: Report) -> str:
    return ""
