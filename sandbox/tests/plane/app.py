"""A small application for tests: says who it is, reaches out, crashes and sleeps on request, speaks an upgrade."""
import json, os, signal, socket, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def do_GET(self):
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if self.headers.get("Upgrade") == "echo":
            return self.echo()
        if url.path == "/exit":
            os._exit(int(query["code"]))
        if url.path == "/sleep":
            time.sleep(float(query["seconds"]))
        answer = {"pid": os.getpid(), "version": os.environ.get("VERSION"), "env": dict(os.environ),
                  "headers": {name.lower(): value for name, value in self.headers.items()}}
        if url.path == "/connect":
            answer["outcome"] = reach(query["host"], int(query["port"]))
        body = json.dumps(answer).encode()
        self.send_response(int(query.get("code", 200)) if url.path == "/status" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def echo(self):
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "echo")
        self.end_headers()
        while data := self.connection.recv(4096):
            self.connection.sendall(data)
        self.close_connection = True

    def log_message(self, *_):
        pass


def reach(host, port):
    try:
        socket.create_connection((host, port), timeout=2).close()
        return "open"
    except TimeoutError:
        return "timed out"
    except OSError as error:
        return str(error)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


server = Server(("0.0.0.0", int(os.environ["PORT"])), App)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print("listening", flush=True)
server.serve_forever()
