"""Spellings of arguments as people write them, numbers and other objects, as texts for :class:`Call`."""

from __future__ import annotations

# Neighbours of the limits of int32 and int64, and of a half and a quarter of int64's, where sums overflow.
HUGE = tuple(2**bits + step for bits in (31, 32, 61, 62, 63, 64) for step in (-1, 0, 1))
# Numbers that are 0 or 1 if truncated to 32, 63 or 64 bits.
BEYOND_INT32 = (2**32, 2**32 + 1)
BEYOND_INT64 = (2**63, 2**63 + 1, 2**64, 2**64 + 1, 2**63, 2**63 + 1)

# Texts in weighted groups, so that the plainest spelling is not rare among many variants.
Table = tuple[tuple[int, tuple[str, ...]], ...]

# Spellings of a number {} as a float, and of a pair of it.
FLOATS: Table = (
    (5, ("1.0",)),
    (2, ("{}.0",)),
    (2, ("numpy.float64({})", "numpy.array({}.0)", "torch.tensor({}.0)", "1e999", "{}.5")),
)
FLOAT_PAIRS: Table = (
    (2, ("({}.0,{})", "({},{}.0)", "({}.0,{}.0)", "({},numpy.array({}.0))", "({},torch.tensor({}.0))")),
)
# Booleans: first True, which is equal to 1.
BOOLS: Table = ((6, ("True",)), (2, ("numpy.bool(True)", "numpy.array(True)", "torch.tensor(True)", "False")))
BOOL_PAIRS: Table = ((2, (
    "(True,True)", "(True,1)", "(1,True)", "(1,False)", "[1,True]", "(1,numpy.bool(True))", "(torch.tensor(True),1)",
    "(1,torch.tensor(True))", "torch.tensor([True])",
)),)  # fmt: skip
# Objects that are not numbers, and pairs that are not pairs of numbers.
NOT_NUMBERS: Table = ((3, ("None", "'1'")), (3, ("'same'", "b'1'", "1j", "range(1,3)", "torch.tensor([])")))
NOT_NUMBER_PAIRS: Table = ((2, (
    "(None,1)", "(1,None)", "(1,'1')", "('1','1')", "((1,1),)", "(1,(1,))", "((1,1),(1,1))", "[[1,1]]", "[[1],[1]]",
    "numpy.array([1,1])", "torch.tensor([1,1])",
)),)  # fmt: skip
# Spellings of an integer {}, and of a pair of it, with integers of NumPy.
NUMPY_INTEGERS: Table = ((4, ("numpy.int64({})",)), (2, ("numpy.int32({})",)))
NUMPY_INTEGER_PAIRS: Table = (
    (2, ("(numpy.int64({}),{})", "({},numpy.int64({}))", "(numpy.int64({}),numpy.int64({}))", "[numpy.int64({})]")),
)
# Other spellings that an index protocol could accept, legal or not.
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
