"""Why a conversion loses return, measured: errors along episodes, what they cost, and where they come from."""
