//! Errors of the tree.

/// What can go wrong.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum FilesError {
    /// An option that cannot be used; the text says why.
    #[error("{0}")]
    Invalid(String),
}

/// Of the tree.
pub type Result<T> = std::result::Result<T, FilesError>;
