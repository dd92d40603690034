"""`artesian files`: the cache for files of other stores, from the command line."""

from cyclopts import App

from artesian.cli.files_care import evict, pin, quota, warm
from artesian.cli.files_look import explain, stat, top
from artesian.cli.files_replay import replay

app = App(
    name="files",
    help="""Look at and look after the cache for files of other stores.

    Python programs read through it by fsspec: fsspec.open("artesian::s3://bucket/key"). A path
    here is a URL without artesian::, such as s3://bucket/folder, or a local path.""",
    help_epilogue="""\
Examples: artesian files stat | artesian files warm s3://bucket/train --option anon=true |
artesian files pin s3://bucket/models | artesian files quota s3://bucket/logs 10GiB |
artesian files explain s3://bucket/train | artesian files evict s3://bucket/old""",
)
for command in (stat, top, explain, warm, pin, quota, evict, replay):
    app.command(command)
