"""A web page and a JSON API over a run or an export."""
