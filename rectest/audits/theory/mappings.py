"""Why the properties of mappings are properties."""

from __future__ import annotations

from collections.abc import Mapping

from rectest.audits.theory import Theory

__all__ = ["THEORY"]

THEORY: Mapping[str, Theory] = {
    "mapping": Theory(
        claim="A run, or a file, that speaks of items has a map from raw ids to indices, and the map is not empty.",
        why="Every row of a table, every target and every metric is about an item only through the map.",
        red="Nothing can be told about an absent or empty map, and what was not measured is not green.",
    ),
    "mapping/bijection": Theory(
        claim="Every raw id stands in the map once.",
        why="A map is a function from raw ids to indices. JSON allows a key twice (RFC 8259, section 4) and readers"
        " keep the last in silence, so the file is read as pairs. Ids of equal hashes are compared byte by byte.",
        red="An item has several rows, each trained on a part of its events. Causes: maps of two splits put one after"
        " the other, ids made before they were stripped, files written by appending.",
    ),
    "mapping/shared_index": Theory(
        claim="Every index belongs to one raw id.",
        why="Rows are addressed by index, so two ids of one index are one item to the model: a sum of both histories.",
        red="Recommending one is recommending both. Causes: hashing ids into buckets, a map that was extended from the"
        " wrong number, indices cut to 32 bits.",
        exempt="Hashed embeddings share rows on purpose; then the map is no id map, and this audit is not for it.",
    ),
    "mapping/gaps": Theory(
        claim="Every index from the first to the last has a raw id.",
        why="With n ids from f on, a bijection to f..f+n-1 leaves none out; each hole is a row that no event trains.",
        red="Rows that were only initialised take part in rankings, and nothing can be shown for them. Causes: items"
        " filtered out after the map was made, ids that became empty.",
        exempt="A map that keeps the numbers of a larger one has holes on purpose; make it dense for training.",
    ),
    "mapping/first_index": Theory(
        claim="The indices begin at 0, or at 1 where row 0 is padding.",
        why="Row i of a table is meant for index i. Another start shifts every row, or leaves rows to nobody.",
        red="Recommendations are the neighbours of the right ones in the order of the map: metrics fall to chance.",
        exempt="Several special rows before the first item: name them in the map ([PAD], [MASK]), or --first-index.",
    ),
    "mapping/index_type": Theory(
        claim="Every index is written as a whole number.",
        why="pandas turns a column of whole numbers into decimals when one value is missing (NaN has no whole number), "
        "and json.dump then writes 3.0; a lookup by 3 in a map of texts finds nothing.",
        red="Decimals, digits in quotes, null, true, NaN. Where one is, a value was missing when the map was written.",
    ),
    "mapping/key_format": Theory(
        claim="All raw ids are written in one format: the promised one, or the one that nine in ten of them have.",
        why="Ids are compared as text, so 487 and 487.0, or b00a and B00A, are different ids. A format is the map's own"
        " when at least 90 % of the ids have it. Where two formats have 90 % together, and each more than 10 %, two"
        " vocabularies share the map; any other map holds free text, in which nothing is odd.",
        red="The ids named never match those of other files, so their events are lost. Causes: a column read as floats,"
        " spaces kept, a header or a total read as an id, maps of two catalogues or of two stages laid together.",
        exempt="Names of special entries ([PAD], <unk>) have no format. --key-pattern promises a format of your own.",
    ),
    "mapping/collisions": Theory(
        claim="No two raw ids are equal when case, space around, zeros ahead and a fraction of .0 are left out.",
        why="Ids that systems give differ in more than that; ids that differ in it alone are almost surely one item"
        " written in two ways, by two sources or after a round trip through a number.",
        red="An item has two rows. Causes: spreadsheets that drop leading zeros of ISBNs, merges of sources.",
        exempt="Ids in which case counts (base64, YouTube) collide by chance about never: with 11 characters of 64, two"
        " of ten million are alike up to case with a probability below one in a thousand."
        " Shorter ones may collide: then this finding is to be read, and left.",
    ),
    "mapping/table_rows": Theory(
        claim="A table has a row for each index up to the last, the row of padding counted, and no more.",
        why="Tables are made from the number of ids: n rows where indices begin at 0, n + 1 where row 0 is padding. One"
        " more or less is the trace of the two conventions meeting.",
        red="One row too many or too few: map and table may be shifted by one against each other.",
        exempt="Rows kept free for new items, or rounded up for hardware: compare the used part.",
    ),
    "mapping/table_index": Theory(
        claim="Every index is the number of a row of the table.",
        why="An index beyond the table is an error on a CPU and, in some kernels on a GPU, memory of something else; a"
        " negative one is, in NumPy and torch slices, a row counted from the end.",
        red="Crashes that depend on the batch, or rows of other items. Causes: a table of an older map, off by one.",
    ),
    "mapping/padding": Theory(
        claim="No item has the index of padding.",
        why="The row of padding gets no gradient (torch.nn.Embedding, padding_idx), and masks leave out its places.",
        red="One item, often the most popular or the first of the alphabet, is never trained and never recommended.",
        exempt="Tables without padding: the map begins at 0, --padding is not given, and row 0 is not all zeros.",
    ),
    "mapping/complete": Theory(
        claim="Every dense id that a phase uses is one of the map's.",
        why="Dense ids are made by the map, so an id outside of it was made elsewhere or by a default such as"
        " dict.get(raw, 0).",
        red="Unknown ids became padding, or rows of nobody.",
    ),
    "mapping/coverage": Theory(
        claim="Every raw id in every field of the events that the map encodes is in the map.",
        why="An event of an unknown id is dropped, raises, or becomes padding. Lost events are not random: they are"
        " those of one split, one source, one format. Histories and targets are different fields, and each is counted.",
        red="The ids are named with their events, the most popular first; a field none of whose ids is known is written"
        " in another vocabulary, and a model trained on it learns nothing.",
        exempt="A test of new items keeps them out of the map on purpose; give the training events alone.",
    ),
    "mapping/popular_items": Theory(
        claim="The most popular ids have an index, a row that is finite and not zero, and rows that training reaches.",
        why="Events are spread like a power law, so a few ids carry much of what a model can learn, and any mistake in"
        " the ids shows there first. In a run record, the share of the events of the 100 most popular ids whose rows"
        " were trained must reach half of what independent draws by popularity give.",
        red="Popular ids whose rows are zero or missing: raw ids used as rows, a second vocabulary, a wrong table.",
    ),
    "mapping/one_vocabulary": Theory(
        claim="Two maps of one kind of thing give each raw id they share the same index, and share at least one.",
        why="A table has one row for an item. Where histories are encoded by one map and targets by another, scores are"
        " those of other items, and recall is near chance however well training went.",
        red="Different indices: two maps built from two files, or in an order that changes between runs (a Python set)."
        " One difference for all is a shift, e.g. of padding.",
        exempt="Maps of different things (users and items) are not compared.",
    ),
}
