"""Two programs share a cache: start this twice, and the second finds what the first worked out.

python examples/shared_cache.py; python examples/shared_cache.py; artesian pool remove example
"""

import time

from artesian import Pool

with Pool("shm://example", size="64MiB") as pool:
    cache = pool.cache("squares", "16MiB")
    total = 0
    for number in range(50):
        square = cache.get(str(number))
        if square is None:
            time.sleep(0.05)  # Something that takes long.
            square = b"%d" % number**2
            cache.put(str(number), square)
        total += int(square)
    print(f"the sum is {total}; {cache.stats().num_hits} of 50 numbers were there already")
