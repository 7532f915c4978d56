"""Axis names for jaxtyping: one name per axis, the same in every signature.

``query`` rows of a table of conditions in contexts; ``gene`` measured genes; ``cell`` cells; ``context`` contexts;
``target`` perturbed genes; ``feature`` columns of an embedding table; ``train`` / ``test`` queries of one side.
"""

from jaxtyping import Bool, Float, Int
from numpy import ndarray

Profile = Float[ndarray, " gene"]
ProfileByQuery = Float[ndarray, "query gene"]
ProfileByContext = Float[ndarray, "context gene"]
MaskByQuery = Bool[ndarray, "query gene"]
ScoreByQuery = Float[ndarray, " query"]
CellIndex = Int[ndarray, " cell"]

__all__ = ["CellIndex", "MaskByQuery", "Profile", "ProfileByContext", "ProfileByQuery", "ScoreByQuery"]
