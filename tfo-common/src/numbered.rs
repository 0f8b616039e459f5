//! Enums whose discriminant is a number in a map: one macro gives each its list, its name and the way back.

/// Declares an enum with consecutive discriminants from 0 and a name for each variant. Gives `ALL`, in the order
/// of the discriminants; `name` and `from_name`; and `from_number`, which takes an unknown number for the variant after `else`.
macro_rules! numbered {
    (
        $(#[$meta:meta])*
        pub enum $enum:ident: $number:ident else $fallback:ident {
            $($(#[$doc:meta])* $variant:ident = $name:literal,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr($number)]
        pub enum $enum {
            $($(#[$doc])* $variant,)*
        }

        impl $enum {
            /// Every variant, in the order of its discriminant.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            #[doc = concat!("The variant with this discriminant; `", stringify!($fallback), "` for any other number.")]
            #[inline(always)]
            #[expect(non_upper_case_globals, reason = "the constants bear the variants' names")]
            pub const fn from_number(number: $number) -> Self {
                $(const $variant: $number = $enum::$variant as $number;)*
                match number {
                    $($variant => Self::$variant,)*
                    _ => Self::$fallback,
                }
            }

            /// The variant of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|it| it.name() == name)
            }

            /// The name in the CLI, in JSON and in the configuration.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

pub(crate) use numbered;
