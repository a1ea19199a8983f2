"""Spellings of arguments: numbers, and what is no number, as people write them. Texts for :class:`Call`."""

from __future__ import annotations

# Neighbours of the limits of int32 and int64, and of half of the latter, where sums of two of them overflow.
HUGE = tuple(2**bits + step for bits in (31, 32, 61, 62, 63, 64) for step in (-1, 0, 1))
# Those that 63, 64 or 32 bits hold as 0 or 1.
BEYOND_INT32 = (2**32, 2**32 + 1)
BEYOND_INT64 = (2**63, 2**63 + 1, 2**64, 2**64 + 1, 2**63, 2**63 + 1)

# Texts in groups, each with a weight: what is plainest is then not rare among many variants.
Table = tuple[tuple[int, tuple[str, ...]], ...]

# Spellings of a number {} that are no integer, and of a pair of it.
FLOATS: Table = (
    (5, ("1.0",)),
    (2, ("{}.0",)),
    (2, ("numpy.float64({})", "numpy.array({}.0)", "torch.tensor({}.0)", "1e999", "{}.5")),
)
FLOAT_PAIRS: Table = (
    (2, ("({}.0,{})", "({},{}.0)", "({}.0,{}.0)", "({},numpy.array({}.0))", "({},torch.tensor({}.0))")),
)
# The truth value that is equal to 1, and others.
BOOLS: Table = ((6, ("True",)), (2, ("numpy.bool(True)", "numpy.array(True)", "torch.tensor(True)", "False")))
BOOL_PAIRS: Table = ((2, (
    "(True,True)", "(True,1)", "(1,True)", "(1,False)", "[1,True]", "(1,numpy.bool(True))", "(torch.tensor(True),1)",
    "(1,torch.tensor(True))", "torch.tensor([True])",
)),)  # fmt: skip
# What is no number, and what does not hold two of them as it should.
NOT_NUMBERS: Table = ((3, ("None", "'1'")), (3, ("'same'", "b'1'", "1j", "range(1,3)", "torch.tensor([])")))
NOT_NUMBER_PAIRS: Table = ((2, (
    "(None,1)", "(1,None)", "(1,'1')", "('1','1')", "((1,1),)", "(1,(1,))", "((1,1),(1,1))", "[[1,1]]", "[[1],[1]]",
    "numpy.array([1,1])", "torch.tensor([1,1])",
)),)  # fmt: skip
# Spellings of an integer {}, and of a pair of it, with the numbers of NumPy.
NUMPY_INTEGERS: Table = ((4, ("numpy.int64({})",)), (2, ("numpy.int32({})",)))
NUMPY_INTEGER_PAIRS: Table = (
    (2, ("(numpy.int64({}),{})", "({},numpy.int64({}))", "(numpy.int64({}),numpy.int64({}))", "[numpy.int64({})]")),
)
# Others: legal or not, they are what an index protocol could take.
INTEGER_SPELLINGS: Table = ((1, (
    "torch.tensor({})", "torch.tensor([{}])", "torch.tensor([[{}]])", "numpy.array({})", "numpy.array([{}])",
    "(torch.tensor({}),{})", "({},torch.tensor([{}]))", "(numpy.array({}),{})", "({},numpy.array([{}]))",
    "[torch.tensor({})]", "torch.Size(({},{}))", "torch.Size(({},))",
)),)  # fmt: skip
PADDING_STRINGS: Table = (
    (6, ("'SAME'", "'VALID'")),
    (3, ("''", "'full'", "'valid '", "'circular'", "b'same'", "b'valid'", "['same']", "('same','same')")),
)
NOT_TENSORS = (
    "None",
    "1",
    "1.0",
    "True",
    "'weight'",
    "[1]",
    "()",
    "[[[[1.0]]]]",
    "numpy.array([1.0])",
    "numpy.float64(1.0)",
)
