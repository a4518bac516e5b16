"""The reading room: a page where a clinic hands in X-rays and reads what a global model says of them."""
