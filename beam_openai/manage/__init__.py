"""What there is to manage on a server: files, models, fine-tunes, batches. Plain functions, one module a family.

Each takes an `API` or a `Server` (an API with its connections, and a `Retry`), and returns what the server said, as
dicts. How calls are tried again, and why nothing is made twice, stands in `server`. Nothing here imports Beam.

    from beam_openai import API
    from beam_openai.manage import files, fine_tuning

    file = files.upload(API(), "train.jsonl", "fine-tune")
    job = fine_tuning.create(API(), file["id"], "gpt-4o-mini-2024-07-18")
    for event in fine_tuning.follow(API(), job["id"]):
        print(event["message"])
"""

from beam_openai.manage import batches, engines, files, fine_tunes, fine_tuning, models, uploads
from beam_openai.manage.server import Object, Server

__all__ = ["Object", "Server", "batches", "engines", "files", "fine_tunes", "fine_tuning", "models", "uploads"]
