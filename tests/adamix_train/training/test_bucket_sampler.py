from adamix_train.training.bucket_sampler import BucketSampler

LENGTHS = [index * 7 % 64 for index in range(64)]
BATCH = 4


def order(*, seed: int = 0, epoch: int = 0) -> list[int]:
    sampler = BucketSampler(LENGTHS, BATCH, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_every_example_comes_once() -> None:
    assert sorted(order()) == list(range(len(LENGTHS)))
    assert len(BucketSampler(LENGTHS, BATCH, 0)) == len(LENGTHS)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    sampler = BucketSampler(LENGTHS, BATCH, 3)
    first = list(sampler)
    assert list(sampler) == first == order(seed=3)
    sampler.set_epoch(2)
    assert list(sampler) == order(seed=3, epoch=2)
    assert len({tuple(order(seed=3, epoch=epoch)) for epoch in range(4)}) == 4
    assert order(seed=4) != first


def test_lengths_fall_within_four_batches_and_the_longest_is_first() -> None:
    """transformers sorts random chunks of four batches, and swaps the longest example of all with the first."""
    lengths = [LENGTHS[index] for index in order()]
    assert lengths[0] == max(LENGTHS)
    for start in range(0, len(lengths), 4 * BATCH):
        chunk = lengths[start + 1 : start + 4 * BATCH]
        assert chunk == sorted(chunk, reverse=True)
