"""Train orientation networks on dpcurate datasets, predict crystal maps, report accuracy."""
