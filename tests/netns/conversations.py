#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""The two ends of many short TCP connections, each answered byte for byte, as programs of their own: other tests start them.

    conversations.py serve ADDRESS PORT
    conversations.py call ADDRESS PORT COUNT THREADS [SIZE]     says how many were right, and what the first wrong one was

The caller sends a question of its own, says that nothing follows (FIN), and then gets the answer: for its whole length the connection is
half closed.
"""
import hashlib
import os
import socket
import sys
import threading


def answer(question):
    """Depends on every byte of the question; of long ones as long as they, of short ones up to three segments."""
    if len(question) >= 1 << 16:
        return question[::-1]
    return hashlib.sha256(question).digest() * (1 + len(question) % 120)


def everything(sock):
    got = []
    while True:
        part = sock.recv(1 << 16)
        if not part:
            return b"".join(got)
        got.append(part)


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def serve(address, port):
    listener = socket.create_server((address, port), family=family(address), backlog=512)
    print("serving", flush=True)

    def one_after_the_other():
        while True:
            conn, _ = listener.accept()
            try:
                conn.sendall(answer(everything(conn)))
            except OSError as e:
                print("server: %s" % e, flush=True)
            conn.close()
    for _ in range(7):
        threading.Thread(target=one_after_the_other, daemon=True).start()
    one_after_the_other()


def call(address, port, count, threads, size=0):
    right, wrong, lock, left = [0], [], threading.Lock(), [count]

    def one():
        question = os.urandom(size or 1 + os.urandom(1)[0] * 17)
        with socket.create_connection((address, port), timeout=30) as conn:
            conn.sendall(question)
            conn.shutdown(socket.SHUT_WR)
            got = everything(conn)
        return "" if got == answer(question) else "answered %d bytes of %d" % (len(got), len(answer(question)))

    def some():
        while True:
            with lock:
                if not left[0]:
                    return
                left[0] -= 1
            try:
                why = one()
            except OSError as e:
                why = str(e)
            with lock:
                if why:
                    wrong.append(why)
                else:
                    right[0] += 1
    working = [threading.Thread(target=some) for _ in range(threads)]
    for t in working:
        t.start()
    for t in working:
        t.join()
    print(right[0], wrong[0] if wrong else "", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        call(sys.argv[2], *(int(n) for n in sys.argv[3:]))
