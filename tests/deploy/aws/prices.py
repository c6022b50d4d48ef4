"""A price list that answers GetProducts in the form that AWS documents."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import TracebackType
from typing import Any, Self


class PriceList:
    """A server with one product, which costs so much. asked: the requests."""

    def __init__(self, price: str) -> None:
        self.asked: list[dict[str, Any]] = []
        self._server = HTTPServer(("127.0.0.1", 0), self._handler(price))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _handler(self, price: str) -> type[BaseHTTPRequestHandler]:
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                body = json.dumps({"FormatVersion": "aws_v1", "PriceList": [json.dumps(product(price))]}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def product(price: str) -> dict[str, Any]:
    """A product with an on-demand price, and the price of a reservation."""
    return {
        "product": {"productFamily": "Compute Instance", "sku": "A", "attributes": {"instanceType": "c7i.large"}},
        "serviceCode": "AmazonEC2",
        "terms": {
            "Reserved": {"A.R": {"priceDimensions": {"A.R.1": {
                "unit": "Hrs", "description": "Linux/UNIX (Amazon VPC), c7i.large reserved instance applied",
                "pricePerUnit": {"USD": "0.0400000000"}}}}},
            "OnDemand": {"A.D": {"priceDimensions": {"A.D.1": {
                "unit": "Hrs", "description": f"${price} per On Demand Linux c7i.large Instance Hour",
                "pricePerUnit": {"USD": price}}}}},
        },
    }  # fmt: skip
