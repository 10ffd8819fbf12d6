"""The forecast table and the records beside it: what was forecast, by which run, from which
bars."""
