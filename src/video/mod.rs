//! Pictures: where they come from, how they are coded, where they go.
