"""Files and folders made to harm whoever reads them; `README.md` lists them."""
