"""Customer intelligence: churn, lifetime value and segments, trained, served and watched."""
