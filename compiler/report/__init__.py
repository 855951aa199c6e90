"""Reports about bundles: what is in them, and where their time goes."""
