//! Where pictures go.
