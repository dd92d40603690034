# noqa: A005 - tests of artesian.profile
