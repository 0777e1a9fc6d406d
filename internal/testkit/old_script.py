#!/usr/bin/env python3
"""A stand-in for the older script, with the same arguments, output, files and locking."""

import argparse
import fcntl
import logging
import os
import shutil

log = logging.getLogger("shard_to_ssd")


class UserFile:
    """The list of users and its lock."""

    def __init__(self, path, check_inode):
        self.path = os.path.abspath(path)
        self.check_inode = check_inode

    def __enter__(self):
        self.file = self.lock()
        while self.check_inode and self.stale():
            self.file.close()
            self.file = self.lock()
        log.info("Lock on file %s acquired", self.path)
        return self

    def __exit__(self, *_):
        self.file.flush()
        fcntl.flock(self.file, fcntl.LOCK_UN)
        log.info("Lock on file %s released", self.path)
        self.file.close()

    def lock(self):
        file = open(self.path, "a+")
        fcntl.flock(file, fcntl.LOCK_EX)
        return file

    def stale(self):
        try:
            return os.stat(self.path).st_ino != os.fstat(self.file.fileno()).st_ino
        except FileNotFoundError:
            return True

    def read(self):
        self.file.seek(0)
        return [line.strip() for line in self.file if line.strip()]

    def write(self, ids):
        self.file.seek(0)
        self.file.truncate()
        self.file.write("\n".join(ids))
        self.file.flush()


def copy(source, shard, ssddir, users, id):
    ids = users.read()
    target = os.path.join(ssddir, shard)
    if os.path.exists(target):
        logging.info("Shard %s is already on ssd", shard)
    else:
        logging.info("Starting copy shard %s to ssd", shard)
        shutil.copytree(source, target, symlinks=True)
    if id not in ids:
        ids.append(id)
        users.write(ids)


def remove(shard, ssddir, users, id):
    ids = [other for other in users.read() if other != id]
    if ids:
        logging.info("Some services need shard: %s Do nothing.", shard)
        users.write(ids)
        return
    logging.info("I am last user. Removing shard %s from %s", shard, ssddir)
    shutil.rmtree(os.path.join(ssddir, shard))
    os.unlink(users.path)


def main():
    parser = argparse.ArgumentParser()
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("-c", "--copy", action="store_true")
    mode.add_argument("-r", "--remove", action="store_true")
    parser.add_argument("-l", "--lockdir", required=True)
    parser.add_argument("-s", "--ssddir", required=True)
    parser.add_argument("-i", "--id", required=True)
    parser.add_argument("--check-inode", action="store_true")
    parser.add_argument("shard")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    source = args.shard.rstrip("/")
    shard = os.path.basename(source)
    with UserFile(os.path.join(args.lockdir, shard + ".lock"), args.check_inode) as users:
        if args.copy:
            copy(source, shard, args.ssddir, users, args.id)
        else:
            remove(shard, args.ssddir, users, args.id)


main()
