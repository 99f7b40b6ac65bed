//! Nothing at run time: the build script looks for the tools that the C++ engines are compiled
//! with and says what to install where one is missing.
//!
//! It is a crate of its own, without dependencies, because a build script runs before those of the
//! packages beside it only if it is ready first: the engines' own take half a minute to compile,
//! and would then fail with a stack trace.
