//! Values that tests give `tfo` in its environment. A shipped program has neither these nor their names.

/// The value of an environment variable; `None` where it is not set, or no value of the type.
#[cfg(feature = "test-hooks")]
macro_rules! test_hook {
    ($name:literal) => {
        std::env::var($name).ok().and_then(|set| set.parse().ok())
    };
}

/// None.
#[cfg(not(feature = "test-hooks"))]
macro_rules! test_hook {
    ($name:literal) => {
        $crate::kernel::test_hook::none()
    };
}

#[cfg(not(feature = "test-hooks"))]
pub(crate) const fn none<T>() -> Option<T> {
    None
}

pub(crate) use test_hook;
