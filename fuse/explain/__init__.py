"""Why a run says what it says: data, and pictures of it."""
