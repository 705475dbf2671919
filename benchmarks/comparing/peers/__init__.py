"""One script a peer, run in that peer's environment, as its documentation has it done."""
